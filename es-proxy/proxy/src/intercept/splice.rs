//! *splice*: knn inside something larger. We find the documents, each knn object of the client's own
//! body gets an `ids` filter that names them, and Elasticsearch does all the rest; see [`es_wire::find_knn`].
//!
//! A few documents more than wanted are named, since Elasticsearch picks the nearest of them itself by
//! exact comparison: that mends a hit that was deleted a moment ago, and what recall lacks. For the same
//! reason one list of ids serves several indices: what is named without need loses to what is nearer.

use bytes::Bytes;
use es_wire::{
    DocFilter, Edits, FoundKnn, KnnSite, NotOurs, Params, Reach, Target, VectorField, find_knn, with_ids,
};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use knn_types::Element;

use crate::aside::aside;
use crate::body::RequestBody;
use crate::classify::Endpoint;
use crate::door::limits;
use crate::door::limits::fair::Flow;
use crate::intercept::pass_search::ReadRequest;
use crate::intercept::plan::{Asker, ask, filters_on, most_hits, one_field};
use crate::intercept::profile;
use crate::mode::Mode;
use crate::ports::{KnnHit, KnnQuestion};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::{pass, respond};

/// Documents that all filters of a request name together; more make Elasticsearch slower than it is alone.
const MAX_IDS: usize = 20_000;
const MAX_K: usize = 10_000;

/// A search whose knn parts can be restricted to what we find.
pub(crate) struct Plan {
    targets: Vec<Target>,
    sites: Vec<KnnSite>,
    /// What the filters of each site mean in each target.
    filters: Vec<Vec<Option<DocFilter>>>,
    /// Documents asked for beyond the `k` of each site.
    spare: Vec<usize>,
    nprobe: Option<usize>,
    /// The answer shall say what was done.
    profile: bool,
}

/// Serves an endpoint that takes the body of a search: all that can be done for it is to splice.
pub(crate) async fn serve(worker: &Worker, names: &str, endpoint: Endpoint, request: ClientRequest) -> Reply {
    let read = match ReadRequest::of(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let served = match read.admitted().await {
        Ok(text) => restricted(worker, names, endpoint, &read, text).await,
        Err(served) => served,
    };
    read.finish(worker, names, served).await
}

async fn restricted(
    worker: &Worker,
    names: &str,
    endpoint: Endpoint,
    read: &ReadRequest,
    text: &Bytes,
) -> Result<Reply, &'static str> {
    let parts = &read.request.parts;
    if !respond::is_json(&parts.headers) {
        return Err("content_type");
    }
    let params = Params::of(parts.uri.query()).ok_or("bad_query_string")?;
    let params = endpoint.search_params(params);
    let label = |NotOurs(reason)| reason;
    let asker = Asker::of(worker, read).await.map_err(label)?;
    let planned = asker.plan_splice(names, &params, text).await.map_err(label)?;
    run(worker, &planned, parts, text).await
}

impl Endpoint {
    /// The parameters that a search which finds the same documents would have.
    fn search_params(self, mut params: Params) -> Params {
        match self {
            // What it counts is a search without hits.
            Self::Count => params.0.push(("size".to_owned(), "0".to_owned())),
            Self::AsyncSearch => {
                let own = ["wait_for_completion_timeout", "keep_on_completion", "keep_alive"];
                params.0.retain(|(name, _)| !own.contains(&name.as_str()));
            }
        }
        params
    }
}

impl Asker<'_> {
    /// Decides whether a search can be spliced. The error is the reason why it passes as it is.
    pub(crate) async fn plan_splice(
        &self,
        names: &str,
        params: &Params,
        text: &Bytes,
    ) -> Result<Plan, NotOurs> {
        self.may_splice(names)?;
        self.splice_found(names, params, text, self.read(params, text, find_knn).await?)
    }

    fn may_splice(&self, names: &str) -> Result<(), NotOurs> {
        // Of the documents that we find the caller may see only some, and then others should be found.
        if self.sight.is_whole(names) { Ok(()) } else { Err(NotOurs("security")) }
    }

    fn splice_found(
        &self,
        names: &str,
        params: &Params,
        text: &[u8],
        FoundKnn { mut sites, profile }: FoundKnn,
    ) -> Result<Plan, NotOurs> {
        let targets = self.targets(names, params)?;
        if self.mode(&targets) != Mode::Serve {
            return Err(NotOurs("switched_off"));
        }
        let mut spare = Vec::with_capacity(sites.len());
        for site in &mut sites {
            let field = one_field(&targets, &site.field)?;
            // Elsewhere a knn query finds nothing, and that is Elasticsearch's to say.
            if site.reach == Reach::EachShard && site.nested.as_deref() != field.nested.as_deref() {
                return Err(NotOurs("nested"));
            }
            let is_filtered =
                !site.filters.is_empty() || targets.iter().any(|target| target.filter.is_some());
            if site.nested.is_some() && is_filtered {
                // Whether it is asked of a document or of its nested ones differs by version.
                return Err(NotOurs("filter_nested"));
            }
            if site.vector.len() != field.spec.values() || field.scoring().prepare(&mut site.vector).is_err()
            {
                return Err(NotOurs("bad_vector"));
            }
            if takes_all_named(field, site.reach) && targets.len() > 1 {
                return Err(NotOurs("several_indices"));
            }
            spare.push(beyond_k(field, site));
        }
        let of_alias = targets.iter().any(|target| target.filter.is_some());
        if of_alias && memchr::memmem::find(text, b"runtime_mappings").is_some() {
            // A field that the search makes may stand before the one that the alias means.
            return Err(NotOurs("runtime_mappings"));
        }
        let of_site = |site: &KnnSite| filters_on(&targets, site.filters.iter().map(|raw| &**raw));
        let filters = sites.iter().map(of_site).collect::<Result<_, _>>()?;
        Ok(Plan { targets, sites, filters, spare, nprobe: self.nprobe, profile })
    }
}

impl Plan {
    /// For each site one question for each target.
    pub(crate) fn questions(&self) -> impl Iterator<Item = KnnQuestion<'_>> {
        self.sites.iter().zip(&self.filters).zip(&self.spare).flat_map(|((site, filters), spare)| {
            let (k, nprobe) = (site.k + spare, self.nprobe);
            self.targets.iter().zip(filters).map(move |(target, filter)| KnnQuestion {
                index: &target.index,
                field: &site.field,
                vector: &site.vector,
                k,
                num_candidates: site.num_candidates.max(k),
                reach: site.reach,
                filter: filter.as_ref(),
                shards: target.shards.as_deref(),
                nprobe,
                flow: Flow::default(),
            })
        })
    }

    /// The same for `k` documents whatever the filters, where there is one knn, of which Elasticsearch compares
    /// all that are named.
    pub(crate) fn without_filters(mut self, k: usize) -> Option<Self> {
        let [site] = self.sites.as_slice() else { return None };
        if site.rescores {
            return None;
        }
        self.spare = vec![k.saturating_sub(site.k)];
        self.filters = vec![vec![None; self.targets.len()]];
        Some(self)
    }

    /// How many hits can be found, at most.
    pub(crate) fn most_hits(&self) -> usize {
        let sites = self.sites.iter().zip(&self.spare);
        sites.map(|(site, spare)| most_hits(&self.targets, site.k + spare, site.reach)).sum()
    }

    /// What makes a body one with an `ids` filter in each knn; `found` are the answers to [`Plan::questions`].
    pub(crate) fn edits(&self, found: &[Vec<KnnHit>]) -> Result<Edits, &'static str> {
        let named: Vec<Vec<&str>> = found.chunks(self.targets.len()).map(ids).collect();
        if named.iter().map(Vec::len).sum::<usize>() > MAX_IDS {
            return Err("many_documents");
        }
        Ok(with_ids(&self.sites, &named))
    }
}

/// Searches, and has Elasticsearch do the rest. The error is the reason why the request must pass as it is.
pub(crate) async fn run(
    worker: &Worker,
    plan: &Plan,
    parts: &Parts,
    text: &Bytes,
) -> Result<Reply, &'static str> {
    let flow = limits::flow(parts);
    let questions: Vec<_> = plan.questions().map(|question| KnnQuestion { flow, ..question }).collect();
    limits::charge_knn(parts, &questions);
    let (found, profiles) = if plan.profile {
        profile::ask(worker, &questions).await
    } else {
        ask(worker, &questions).await.map(|found| (found, Vec::new()))
    }
    .map_err(|unavailable| unavailable.reason())?;
    let (edits, text) = (plan.edits(&found)?, text.clone());
    let body = aside(text.len(), move || edits.of(&text)).await;
    let mut head = parts.clone();
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    let request = ClientRequest { parts: head, body: RequestBody::full(Bytes::from(body)) };
    if plan.profile {
        return profile::added(worker, request, &profiles).await;
    }
    let (response, served) = pass::through(worker, request, Served::new("splice", "ok")).await;
    if may_point_at_body(response.status().as_u16()) {
        // At a column of the client's body, not of ours.
        return Err("refused_by_elasticsearch");
    }
    Ok((response, served))
}

/// Whether an error of this status may be about the body; some of Elasticsearch's parsers call a wrong one an
/// internal error, and 8.10 fails so to profile some knn with filters, which ours always have.
pub(crate) fn may_point_at_body(status: u16) -> bool {
    (400..=500).contains(&status)
}

/// The ids of one site's hits in all targets, each once.
fn ids(of_targets: &[Vec<KnnHit>]) -> Vec<&str> {
    let mut ids: Vec<&str> = of_targets.iter().flatten().map(|hit| &*hit.doc.id).collect();
    if of_targets.len() > 1 {
        ids.sort_unstable();
        ids.dedup();
    }
    ids
}

/// From 9.2 on a knn query on a flat field without rescoring, which fields of bytes and bits are, does not
/// stop at `k`: it matches whatever its filter lets through.
fn takes_all_named(field: &VectorField, reach: Reach) -> bool {
    reach == Reach::EachShard && field.spec.element != Element::Float
}

/// Nor more than `k` where the search itself says how few of them are compared exactly.
fn beyond_k(field: &VectorField, site: &KnnSite) -> usize {
    if site.rescores || takes_all_named(field, site.reach) {
        return 0;
    }
    (4 + site.k / 8).min(MAX_K.saturating_sub(site.k))
}
