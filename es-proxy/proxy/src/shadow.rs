//! Shadow mode: the client gets Elasticsearch's answer; ours is computed in the background and the two
//! are compared by the share of Elasticsearch's hits that ours holds. A few comparisons at a time;
//! further searches are simply not compared.

use std::sync::Arc;

use es_wire::{DocFilter, IndexInfo, Reach, Target};

use crate::door::limits::fair::Flow;
use crate::intercept::plan::Plan;
use crate::ports::{KnnHit, KnnQuestion};
use crate::proxy::Proxy;

/// Comparisons at once: each is an exact scan in Elasticsearch.
pub(crate) const MAX_AT_ONCE: usize = 1;

struct Shadowed {
    index: Arc<IndexInfo>,
    field: String,
    vector: Vec<f32>,
    k: usize,
    num_candidates: usize,
    reach: Reach,
    filter: Option<DocFilter>,
}

/// Compares a search of one whole index in the background, if there is room.
pub(crate) fn compare(shared: &Arc<Proxy>, plan: &Plan) {
    let [Target { index, shards: None, .. }] = plan.targets.as_slice() else { return };
    let Ok(slot) = Arc::clone(&shared.shadow_slots).try_acquire_owned() else { return };
    let shadowed = Shadowed {
        index: Arc::clone(index),
        field: plan.search.field.clone(),
        vector: plan.search.vector.clone(),
        k: plan.search.k,
        num_candidates: plan.search.num_candidates,
        reach: plan.search.reach,
        filter: plan.filters.first().cloned().flatten(),
    };
    let proxy = Arc::clone(shared);
    shared.background.spawn(async move {
        let _slot = slot;
        let question = KnnQuestion {
            index: &shadowed.index,
            field: &shadowed.field,
            vector: &shadowed.vector,
            k: shadowed.k,
            num_candidates: shadowed.num_candidates,
            reach: shadowed.reach,
            filter: shadowed.filter.as_ref(),
            shards: None,
            nprobe: None,
            flow: Flow::default(),
        };
        let (ours, theirs) = tokio::join!(proxy.engine.knn(question), proxy.upstream_source.knn(question));
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            let overlap = overlap(&ours, &theirs);
            tracing::debug!(index = %shadowed.index.name, field = %shadowed.field, overlap, "shadow compared");
            proxy.telemetry.compared(overlap);
        }
    });
}

/// The share of `theirs` that `ours` holds; 1 when there is nothing to find.
fn overlap(ours: &[KnnHit], theirs: &[KnnHit]) -> f64 {
    if theirs.is_empty() {
        return 1.0;
    }
    let found = theirs.iter().filter(|hit| ours.iter().any(|own| own.doc == hit.doc)).count();
    found as f64 / theirs.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use knn_types::DocKey;

    #[test]
    fn overlap_counts_shared_documents() {
        let hits = |ids: &[&str]| -> Vec<KnnHit> {
            ids.iter().map(|id| KnnHit { doc: DocKey::new(*id), order: None, score: 1.0, shard: 0 }).collect()
        };
        assert_eq!(overlap(&hits(&["a", "b"]), &hits(&["a", "c"])), 0.5);
        assert_eq!(overlap(&hits(&[]), &hits(&[])), 1.0);
    }
}
