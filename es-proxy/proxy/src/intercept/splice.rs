//! *splice*: knn inside something larger. We find the documents, each knn object of the client's own
//! body gets an `ids` filter that names them, and Elasticsearch does all the rest; see [`es_wire::find_knn`].
//!
//! A few documents more than wanted are named, since Elasticsearch picks the nearest of them itself by
//! exact comparison: that mends a hit that was deleted a moment ago, and what recall lacks.

use std::sync::Arc;

use bytes::Bytes;
use es_wire::{Catalog, DocFilter, IndexInfo, KnnSite, NotOurs, Params, Reach, VectorField};
use es_wire::{find_knn, with_ids};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use knn_types::Element;

use crate::body::RequestBody;
use crate::intercept::search::{filter_on, one_target};
use crate::mode::{Mode, says_pass};
use crate::pass;
use crate::ports::{KnnQuestion, KnnUnavailable};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond::is_media_type;
use crate::telemetry::Served;

/// Documents that all filters of a request name together; more make Elasticsearch slower than it is alone.
const MAX_IDS: usize = 20_000;
const MAX_K: usize = 10_000;

/// A search whose knn parts can be restricted to what we find.
pub(crate) struct Plan {
    index: Arc<IndexInfo>,
    sites: Vec<KnnSite>,
    /// What the filters of each site mean on that index.
    filters: Vec<Option<DocFilter>>,
}

/// Decides whether a search can be spliced. The error is the reason why it passes as it is.
pub(crate) fn plan(
    worker: &Worker,
    parts: &Parts,
    target: &str,
    catalog: &Catalog,
    text: &[u8],
) -> Result<Plan, NotOurs> {
    let shared = &worker.shared;
    if says_pass(&parts.headers) {
        return Err(NotOurs("request_says_pass"));
    }
    let node = shared.cluster.node().ok_or(NotOurs("upstream_unknown"))?;
    let caps = node.capabilities.as_ref().ok_or(NotOurs("version_unknown"))?;
    if !is_media_type(&parts.headers, &["application/json", "application/vnd.elasticsearch+json"]) {
        return Err(NotOurs("content_type"));
    }
    if shared.config.security.is_on(&node) {
        // Of the documents that we find the caller may see only some, and then others should be found.
        return Err(NotOurs("security"));
    }
    let params = Params::of(parts.uri.query()).ok_or(NotOurs("bad_query_string"))?;
    let mut sites = find_knn(text, &params, caps)?;
    let (index, of_alias) = one_target(catalog, target)?;
    if shared.modes.of(&index.name) != Mode::Serve {
        return Err(NotOurs("switched_off"));
    }
    for site in &mut sites {
        let field = index.fields.get(site.field.as_str()).ok_or(NotOurs("field_not_ours"))?;
        if site.vector.len() != field.spec.values() || field.scoring().prepare(&mut site.vector).is_err() {
            return Err(NotOurs("bad_vector"));
        }
    }
    if of_alias.is_some() && text.windows(16).any(|window| window == b"runtime_mappings") {
        // A field that the search makes may stand before the one that the alias means.
        return Err(NotOurs("runtime_mappings"));
    }
    let filter =
        |site: &KnnSite| filter_on(&index, site.filters.iter().map(|raw| &**raw), of_alias.as_deref());
    let filters = sites.iter().map(filter).collect::<Result<_, _>>()?;
    Ok(Plan { index, sites, filters })
}

/// Searches, and has Elasticsearch do the rest. The error is the reason why the request must pass as it is.
pub(crate) async fn run(
    worker: &Worker,
    plan: &Plan,
    parts: &Parts,
    text: &[u8],
) -> Result<Reply, &'static str> {
    let mut named = Vec::with_capacity(plan.sites.len());
    let mut unknown = None;
    for (site, filter) in plan.sites.iter().zip(&plan.filters) {
        match ids(worker, plan, site, filter.as_ref()).await {
            Ok(found) => named.push(found),
            // The others are asked too, so that what their filters let through is fetched as well.
            Err(KnnUnavailable::FilterUnknown) => unknown = Some(KnnUnavailable::FilterUnknown),
            Err(unavailable) => return Err(unavailable.reason()),
        }
    }
    if let Some(unavailable) = unknown {
        return Err(unavailable.reason());
    }
    if named.iter().map(Vec::len).sum::<usize>() > MAX_IDS {
        return Err("many_documents");
    }
    let mut head = parts.clone();
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    let body = Bytes::from(with_ids(text, &plan.sites, &named));
    let request = ClientRequest { parts: head, body: RequestBody::full(body) };
    let (response, served) = pass::through(worker, request, Served::new("splice", "ok")).await;
    if response.status().is_client_error() {
        // An error may point at a column of the body: of the client's, not of ours.
        return Err("refused_by_elasticsearch");
    }
    Ok((response, served))
}

async fn ids(
    worker: &Worker,
    plan: &Plan,
    site: &KnnSite,
    filter: Option<&DocFilter>,
) -> Result<Vec<Box<str>>, KnnUnavailable> {
    let k = site.k + spare(&plan.index.fields[site.field.as_str()], site);
    let question = KnnQuestion {
        index: &plan.index,
        field: &site.field,
        vector: &site.vector,
        k,
        num_candidates: site.num_candidates.max(k),
        reach: site.reach,
        filter,
    };
    let hits = worker.shared.engine.knn(question).await?;
    Ok(hits.into_iter().map(|hit| hit.doc.id).collect())
}

/// Documents beyond `k`. None where Elasticsearch would not stop at `k`: from 9.2 on a knn query on a flat
/// field without rescoring, which fields of bytes and bits are, matches whatever its filter lets through.
fn spare(field: &VectorField, site: &KnnSite) -> usize {
    if site.reach == Reach::EachShard && field.spec.element != Element::Float {
        return 0;
    }
    (4 + site.k / 8).min(MAX_K.saturating_sub(site.k))
}
