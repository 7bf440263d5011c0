//! `profile: true` around a knn of ours: Elasticsearch's own profile of what it did, and in it, for each
//! shard, an `ivf` part that says what we did.

use es_wire::{ShardProfile, with_profiles};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use serde_json::json;

use crate::body::{ResponseBody, collect};
use crate::intercept::show::MAX_SHOWN_BYTES;
use crate::intercept::splice::may_point_at_body;
use crate::ports::{KnnHit, KnnQuestion, KnnUnavailable};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::upstream::strip_hop_by_hop;
use crate::{pass, respond};

/// Asks one question after the other; returns what was found, and what was done on each shard.
pub(crate) async fn ask(
    worker: &Worker,
    questions: &[KnnQuestion<'_>],
) -> Result<(Vec<Vec<KnnHit>>, Vec<ShardProfile>), KnnUnavailable> {
    let mut found = Vec::with_capacity(questions.len());
    let mut profiles: Vec<ShardProfile> = Vec::new();
    for question in questions {
        let (hits, works) = worker.shared.engine.profiled(*question).await?;
        found.push(hits);
        for work in works {
            let told = json!({
                "field": question.field, "k": question.k, "num_candidates": question.num_candidates,
                "documents": work.documents,
                "plan": if work.lists == 0 { "exact" } else { "lists" },
                "lists": work.lists, "scanned": work.scanned, "compared": work.compared, "hits": work.hits,
                "filter": work.allowed.map(|allowed| json!({"allowed": allowed})),
                "time_in_nanos": u64::try_from(work.took.as_nanos()).unwrap_or(u64::MAX),
            });
            let index = &question.index.name;
            let of_shard =
                |profile: &&mut ShardProfile| profile.index == *index && profile.shard == work.shard;
            match profiles.iter_mut().find(of_shard) {
                Some(profile) => profile.knn.push(told.to_string()),
                None => profiles.push(ShardProfile {
                    index: index.clone(),
                    shard: work.shard,
                    knn: vec![told.to_string()],
                }),
            }
        }
    }
    Ok((found, profiles))
}

/// Sends a spliced search, and adds our part to its profile. The error is the reason why the request must
/// pass as it is.
pub(crate) async fn added(
    worker: &Worker,
    mut request: ClientRequest,
    profiles: &[ShardProfile],
) -> Result<Reply, &'static str> {
    let mut asked = HeaderMap::new();
    if let Some(encoding) = request.parts.headers.remove(ACCEPT_ENCODING) {
        asked.insert(ACCEPT_ENCODING, encoding);
    }
    let response = match pass::send(worker, request).await {
        Ok(response) => response,
        Err(reply) => return Ok(reply),
    };
    if may_point_at_body(response.status().as_u16()) {
        // An error may point at a column of the body: of the client's, not of ours.
        return Err("refused_by_elasticsearch");
    }
    let (mut head, body) = response.into_parts();
    let bytes = match collect(body, MAX_SHOWN_BYTES).await {
        Ok(Some(bytes)) => bytes,
        _ => return Err("profile_too_large"),
    };
    let text = std::str::from_utf8(&bytes).ok();
    if text.is_some_and(|text| text.contains("\"failures\"")) {
        // 8.10 cannot profile every knn that has a filter, and the filter is ours.
        return Err("shards_failed");
    }
    let shown = text.and_then(|text| with_profiles(text, profiles));
    let (bytes, encoding) = respond::encode(&asked, shown.map_or(bytes.into(), String::into_bytes));
    strip_hop_by_hop(&mut head.headers);
    head.headers.remove(CONTENT_LENGTH);
    if let Some(encoding) = encoding {
        head.headers.insert(CONTENT_ENCODING, encoding);
    }
    Ok((http::Response::from_parts(head, ResponseBody::chunked(bytes)), Served::new("splice", "ok")))
}
