//! What a search asks, apart from the HTTP request that carried it: a body, its parameters and the names of
//! its targets. `_search` has one of these, `_msearch` many.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use es_wire::{Capabilities, Catalog, DocFilter, IndexInfo, KnnSearch, NotOurs, Params, Reach, Resolved};
use es_wire::{
    ScoredHit, Scoring, Seen, Target, TargetOptions, VectorField, parse_knn_search, parse_search,
    read_filters,
};

use crate::aside::{LONG, aside};
use crate::door::head;
use crate::door::identity::{self, Sight};
use crate::door::limits::fair::Flow;
use crate::intercept::nprobe;
use crate::intercept::pass_search::ReadRequest;
use crate::mode::{Mode, says_pass};
use crate::ports::{KnnAnswer, KnnHit, KnnQuestion, KnnUnavailable};
use crate::proxy::{Proxy, Worker};

/// What holds for every search of one request.
pub(crate) struct Asker<'a> {
    pub(crate) shared: &'a Arc<Proxy>,
    catalog: &'a Catalog,
    pub(crate) caps: Capabilities,
    /// What the caller may see.
    pub(crate) sight: Sight,
    /// Lists to visit, where the request says so.
    pub(crate) nprobe: Option<usize>,
}

/// A search that can be answered here.
pub(crate) struct Plan {
    pub(crate) search: KnnSearch,
    /// The indices that are searched, by name.
    pub(crate) targets: Vec<Target>,
    /// What the filters of the search and of an alias mean in each target.
    pub(crate) filters: Vec<Option<DocFilter>>,
    /// The same in all targets.
    scoring: Scoring,
    /// Elasticsearch must confirm each hit under the caller's credentials.
    pub(crate) verify: bool,
    /// The names by which the caller may reach the targets, where that matters: those that he used.
    pub(crate) names: Option<Box<str>>,
    pub(crate) mode: Mode,
    nprobe: Option<usize>,
}

impl<'a> Asker<'a> {
    /// What holds before a body that holds a knn is understood; the error is the reason why everything passes.
    /// Where Elasticsearch has security it is asked about the caller.
    pub(crate) async fn of(worker: &'a Worker, read: &'a ReadRequest) -> Result<Self, NotOurs> {
        let (shared, parts, catalog) = (&worker.shared, &read.request.parts, &*read.catalog);
        let headers = &parts.headers;
        if says_pass(headers) {
            return Err(NotOurs("request_says_pass"));
        }
        if head::is_for_elasticsearch_to_refuse(headers) {
            return Err(NotOurs("headers"));
        }
        let node = shared.cluster.node().ok_or(NotOurs("upstream_unknown"))?;
        let caps = node.capabilities.ok_or(NotOurs("version_unknown"))?;
        let nprobe = nprobe::wanted(headers)?;
        let sight = match shared.config.security.is_on(&node) {
            false => Sight::All,
            true => identity::sight(worker, parts).await,
        };
        Ok(Self { shared, catalog, caps, sight, nprobe })
    }

    /// Decides whether a search can be answered here; without side effects.
    pub(crate) async fn plan(&self, names: &str, params: &Params, text: &Bytes) -> Result<Plan, NotOurs> {
        self.plan_read(names, params, self.read(params, text, parse_search).await?)
    }

    /// The same for the body of a `_knn_search`.
    pub(crate) async fn plan_knn_search(
        &self,
        names: &str,
        params: &Params,
        text: &Bytes,
    ) -> Result<Plan, NotOurs> {
        self.plan_read(names, params, self.read(params, text, parse_knn_search).await?)
    }

    /// Reads a body; a long one on a thread that may block, since others wait for this one.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        params: &Params,
        text: &Bytes,
        reader: fn(&[u8], &Params, &Capabilities) -> Result<T, NotOurs>,
    ) -> Result<T, NotOurs> {
        if text.len() <= LONG {
            return reader(text, params, &self.caps);
        }
        let (length, text, params, caps) = (text.len(), text.clone(), params.clone(), self.caps);
        aside(length, move || reader(&text, &params, &caps)).await
    }

    fn plan_read(&self, names: &str, params: &Params, mut search: KnnSearch) -> Result<Plan, NotOurs> {
        let targets = self.targets(names, params)?;
        let field = one_field(&targets, &search.field)?;
        if search.reach == Reach::EachShard && field.nested.is_some() {
            // Outside of a nested query it finds nothing, and that is Elasticsearch's to say.
            return Err(NotOurs("nested"));
        }
        let end = search.from.saturating_add(search.size);
        if targets.iter().any(|target| end > target.index.max_result_window) {
            return Err(NotOurs("result_window"));
        }
        if search.vector.len() != field.spec.values() || field.scoring().prepare(&mut search.vector).is_err()
        {
            return Err(NotOurs("bad_vector"));
        }
        let filters = filters_on(&targets, search.filter.as_deref())?;
        let verify = !self.sight.is_whole(names);
        if verify && filters.iter().any(Option::is_some) {
            // It may rest on a field that the caller may not see.
            return Err(NotOurs("security"));
        }
        let (scoring, mode) = (field.scoring(), self.mode(&targets));
        // A right on an alias is none on its index, and may be a smaller one.
        let skips_missing = params.get("ignore_unavailable").is_some();
        let by_name = !self.sight.is_open() && !skips_missing;
        let names = by_name.then(|| names.into());
        let plan = Plan { search, targets, filters, scoring, verify, names, mode, nprobe: self.nprobe };
        if skips_missing && (verify || !plan.is_seen_whole(&self.sight)) {
            return Err(NotOurs("security"));
        }
        Ok(plan)
    }

    /// The indices that a request means, by name.
    pub(crate) fn targets(&self, names: &str, params: &Params) -> Result<Vec<Target>, NotOurs> {
        // A pattern means only what the caller may see.
        let options = TargetOptions::of(params)?.expanding_patterns(self.sight.is_open());
        self.catalog.targets(names, &options)
    }

    /// Why a search of `names` is not served here, as far as its caller is told: the reason may be an index, a field
    /// or a document that he may not see.
    pub(crate) fn told(&self, names: &str, reason: &'static str) -> &'static str {
        if self.sight.is_whole(names) {
            return reason;
        }
        tracing::debug!(names, reason, "a search of somebody who may not see all of it is not served here");
        "security"
    }

    /// The most careful mode of the targets.
    pub(crate) fn mode(&self, targets: &[Target]) -> Mode {
        let modes = targets.iter().map(|target| self.shared.modes.of(&target.index.name));
        modes.fold(Mode::Serve, Mode::or_more_careful)
    }
}

/// The one open index that a name means.
pub(crate) fn one_index(catalog: &Catalog, name: &str) -> Result<Arc<IndexInfo>, NotOurs> {
    match catalog.resolve(name) {
        Resolved::One(index) => Ok(index),
        Resolved::NotOne(reason) => Err(NotOurs(reason)),
        Resolved::Unknown => Err(NotOurs("unknown_index")),
    }
}

/// The field of that name, which must be ours and the same in every target.
pub(crate) fn one_field<'t>(targets: &'t [Target], name: &str) -> Result<&'t VectorField, NotOurs> {
    let mut first = None;
    for target in targets {
        let field = target.index.fields.get(name).ok_or(NotOurs("field_not_ours"))?;
        if !first.get_or_insert(field).is_same_field(field) {
            return Err(NotOurs("fields_differ"));
        }
    }
    first.ok_or(NotOurs("field_not_ours"))
}

/// What the filters of a knn, and that of an alias, mean together in each target.
pub(crate) fn filters_on<'f>(
    targets: &'f [Target],
    own: impl IntoIterator<Item = &'f str> + Clone,
) -> Result<Vec<Option<DocFilter>>, NotOurs> {
    let of = |target: &'f Target| {
        filter_on(&target.index, own.clone().into_iter().chain(target.filter.as_deref()))
    };
    targets.iter().map(of).collect()
}

/// What filters mean together on an index.
pub(crate) fn filter_on<'f>(
    index: &IndexInfo,
    raws: impl IntoIterator<Item = &'f str>,
) -> Result<Option<DocFilter>, NotOurs> {
    let raws: Vec<&str> = raws.into_iter().collect();
    if raws.is_empty() { Ok(None) } else { read_filters(&raws, &index.filter_fields).map(Some) }
}

impl Plan {
    /// One question for each target.
    pub(crate) fn questions(&self) -> impl Iterator<Item = KnnQuestion<'_>> {
        self.targets.iter().zip(&self.filters).map(|(target, filter)| KnnQuestion {
            index: &target.index,
            field: &self.search.field,
            vector: &self.search.vector,
            k: self.search.k,
            num_candidates: self.search.num_candidates,
            reach: self.search.reach,
            filter: filter.as_ref(),
            shards: target.shards.as_deref(),
            nprobe: self.nprobe,
            flow: Flow::default(),
        })
    }

    /// What a caller must be able to see beside the documents, where that is not known.
    pub(crate) fn seen(&self) -> Option<Seen<'_>> {
        let field = self.targets.first()?.index.fields.get(&*self.search.field)?;
        self.verify.then_some(Seen { nested: field.nested.as_deref() })
    }

    /// Whether such a caller sees everything that is asked for, by the names by which it is.
    pub(crate) fn is_seen_whole(&self, sight: &Sight) -> bool {
        match &self.names {
            Some(names) => sight.is_whole(names),
            None => self.targets.iter().all(|target| sight.is_whole(&target.index.name)),
        }
    }

    /// How many shards are searched.
    pub(crate) fn shards(&self) -> u32 {
        self.targets.iter().map(Target::shard_count).sum()
    }

    /// Which of so many hits are shown.
    pub(crate) fn page(&self, total: usize) -> Range<usize> {
        let start = self.search.from.min(total);
        start..start.saturating_add(self.search.size).min(total)
    }

    /// How many hits can be found, at most.
    pub(crate) fn most_hits(&self) -> usize {
        most_hits(&self.targets, self.search.k, self.search.reach)
    }

    /// The hits of all targets in Elasticsearch's order, with threshold and boost applied; `found` are the
    /// answers to [`Plan::questions`].
    pub(crate) fn score<'p>(&'p self, found: &'p [Vec<KnnHit>]) -> Vec<ScoredHit<'p>> {
        let search = &self.search;
        let of_target =
            |(target, hits): (&'p Target, &'p Vec<KnnHit>)| hits.iter().map(move |hit| (target, hit));
        let mut hits: Vec<_> = self.targets.iter().zip(found).flat_map(of_target).collect();
        if self.targets.len() > 1 {
            // Equal scores by the number of the shard, then by index; within a shard they are in order.
            hits.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score).then(a.shard.cmp(&b.shard)));
            if search.reach == Reach::Global {
                hits.truncate(search.k);
            }
        }
        let least = search.similarity.map_or(f32::NEG_INFINITY, |raw| self.scoring.threshold(raw));
        let kept = hits.into_iter().filter(|(_, hit)| hit.score >= least);
        kept.map(|(target, hit)| scored(target, hit, search.boost)).collect()
    }

    /// Whether some hit of the targets could carry `_ignored`.
    pub(crate) fn any_ignored(&self, shared: &Proxy) -> bool {
        let shows =
            |target: &Target| target.index.may_ignore && shared.cluster.may_show_ignored(&target.index);
        self.targets.iter().any(shows)
    }
}

fn scored<'p>(target: &'p Target, hit: &'p KnnHit, boost: f32) -> ScoredHit<'p> {
    let order = hit.order.unwrap_or_default();
    ScoredHit {
        index: &target.index.name,
        index_uuid: &target.index.uuid,
        id: &hit.doc.id,
        routing: hit.doc.routing.as_deref(),
        score: hit.score * boost,
        seq_no: order.seq_no,
        primary_term: order.primary_term,
    }
}

/// How many hits one knn can find in these targets.
pub(crate) fn most_hits(targets: &[Target], k: usize, reach: Reach) -> usize {
    let of = |target: &Target| if reach == Reach::Global { k } else { k * target.shard_count() as usize };
    targets.iter().map(of).sum()
}

/// Asks all questions of one search. Where a filter is not known yet the others are asked too, so that what
/// their filters let through is fetched as well.
pub(crate) async fn ask(
    worker: &Worker,
    questions: &[KnnQuestion<'_>],
) -> Result<Vec<Vec<KnnHit>>, KnnUnavailable> {
    let engine = &worker.shared.engine;
    match questions {
        [question] => Ok(vec![engine.knn(*question).await?]),
        questions => all(engine.knn_batch(questions).await),
    }
}

/// The answers to all questions of one search, or why there are none: a filter that is being fetched comes
/// last, since any other reason lasts.
pub(crate) fn all(answers: impl IntoIterator<Item = KnnAnswer>) -> Result<Vec<Vec<KnnHit>>, KnnUnavailable> {
    let (mut found, mut unknown) = (Vec::new(), None);
    for answer in answers {
        match answer {
            Ok(hits) => found.push(hits),
            Err(KnnUnavailable::FilterUnknown) => unknown = Some(KnnUnavailable::FilterUnknown),
            Err(unavailable) => return Err(unavailable),
        }
    }
    unknown.map_or(Ok(found), Err)
}
