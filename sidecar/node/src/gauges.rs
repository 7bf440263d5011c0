//! Gauges that are read when somebody asks for metrics: memory, and the sizes of the indexes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ivf_index::Engine;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use shard_sync::Sync;

use crate::live_recall::{LiveRecall, Measured};

/// Indices with gauges of their own; the others are left out.
const MAX_INDICES: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FieldLabels {
    index: String,
    field: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecallLabels {
    index: String,
    field: String,
    /// `mean`, or an end of its 95 % interval: `low`, `high`.
    bound: &'static str,
}

/// See the head of this file.
pub(crate) struct Gauges {
    engine: Arc<Engine>,
    used: Gauge,
    budget: Gauge,
    refusals: Gauge,
    held: Gauge,
    held_refusals: Gauge,
    allocated: Gauge,
    resident: Gauge,
    docs: Family<FieldLabels, Gauge>,
    memory: Family<FieldLabels, Gauge>,
    disk: Family<FieldLabels, Gauge>,
    recall: Family<FieldLabels, Gauge<f64, AtomicU64>>,
    imbalance: Family<FieldLabels, Gauge<f64, AtomicU64>>,
    drift: Family<FieldLabels, Gauge<f64, AtomicU64>>,
    inertia: Family<FieldLabels, Gauge<f64, AtomicU64>>,
    live_recall: Family<RecallLabels, Gauge<f64, AtomicU64>>,
    live_samples: Family<FieldLabels, Gauge>,
}

impl Gauges {
    pub(crate) fn register(registry: &mut Registry, engine: Arc<Engine>) -> Self {
        let this = Self {
            engine,
            used: Gauge::default(),
            budget: Gauge::default(),
            refusals: Gauge::default(),
            held: Gauge::default(),
            held_refusals: Gauge::default(),
            allocated: Gauge::default(),
            resident: Gauge::default(),
            docs: Family::default(),
            memory: Family::default(),
            disk: Family::default(),
            recall: Family::default(),
            imbalance: Family::default(),
            drift: Family::default(),
            inertia: Family::default(),
            live_recall: Family::default(),
            live_samples: Family::default(),
        };
        if this.engine.memory_use().budget.is_some() {
            let text = "Memory of all indexes that counts against the budget";
            registry.register("outrigger_memory_budget_used_bytes", text, this.used.clone());
            let text = "Memory that all indexes may hold";
            registry.register("outrigger_memory_budget_bytes", text, this.budget.clone());
            let text = "Times that something was refused for want of memory";
            registry.register("outrigger_memory_refusals", text, this.refusals.clone());
        }
        let text = "Memory of acknowledged writes that no refresh has shown yet";
        registry.register("outrigger_held_bytes", text, this.held.clone());
        let text = "Acknowledged writes that there was no memory to hold; the feed fetched their vectors";
        registry.register("outrigger_held_refusals", text, this.held_refusals.clone());
        registry.register("outrigger_memory_allocated_bytes", "Memory in use", this.allocated.clone());
        registry.register(
            "outrigger_memory_resident_bytes",
            "Memory held by the process",
            this.resident.clone(),
        );
        registry.register("outrigger_index_docs", "Documents that a search can find", this.docs.clone());
        registry.register("outrigger_index_memory_bytes", "Memory of the index", this.memory.clone());
        registry.register("outrigger_index_disk_bytes", "Newest snapshot on disk", this.disk.clone());
        registry.register(
            "outrigger_index_recall",
            "Calibrated recall@10 at the defaults",
            this.recall.clone(),
        );
        for (name, help, family) in [
            ("outrigger_index_imbalance", "Sum of squares of list sizes against even lists", &this.imbalance),
            ("outrigger_index_drift", "Residuals of what was added since training against then", &this.drift),
            ("outrigger_index_inertia", "Residuals of all vectors against those at training", &this.inertia),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "outrigger_live_recall",
            "Recall of recent searches, sampled against exact scans, with its 95 % interval",
            this.live_recall.clone(),
        );
        registry.register(
            "outrigger_live_recall_samples",
            "Samples behind outrigger_live_recall",
            this.live_samples.clone(),
        );
        this
    }

    /// Reads everything.
    pub(crate) fn refresh(&self, sync: &Sync, live_recall: &LiveRecall) {
        let memory = self.engine.memory_use();
        self.used.set(memory.used as i64);
        self.budget.set(memory.budget.unwrap_or(0) as i64);
        self.refusals.set(memory.refusals as i64);
        let held = self.engine.hold_use();
        self.held.set(held.used as i64);
        self.held_refusals.set(held.refusals as i64);
        // The allocator's numbers stand still until its epoch is advanced.
        if tikv_jemalloc_ctl::epoch::advance().is_ok() {
            self.allocated.set(tikv_jemalloc_ctl::stats::allocated::read().unwrap_or(0) as i64);
            self.resident.set(tikv_jemalloc_ctl::stats::resident::read().unwrap_or(0) as i64);
        }
        for family in [&self.docs, &self.memory, &self.disk, &self.live_samples] {
            family.clear();
        }
        for family in [&self.recall, &self.imbalance, &self.drift, &self.inertia] {
            family.clear();
        }
        self.live_recall.clear();
        let catalog = sync.catalog();
        let uuids: HashSet<&str> = catalog.adopted().map(|index| &*index.uuid).collect();
        live_recall.retain(|uuid| uuids.contains(uuid));
        for index in catalog.adopted().take(MAX_INDICES) {
            let Some(report) = sync.stats(&index.name) else { continue };
            for field in &report.fields {
                let labels = FieldLabels { index: report.index.clone(), field: field.field.clone() };
                let sum =
                    |of: fn(&shard_sync::ShardReport) -> u64| field.shards.iter().map(of).sum::<u64>() as i64;
                self.docs.get_or_create(&labels).set(field.docs as i64);
                self.memory.get_or_create(&labels).set(sum(|shard| shard.memory_bytes));
                self.disk.get_or_create(&labels).set(sum(|shard| shard.disk_bytes));
                if let Some(measured) = live_recall.of(&index.uuid, &field.field) {
                    self.show_live(&labels, &measured);
                }
                let recalls: Vec<f32> = field.shards.iter().filter_map(|shard| shard.recall).collect();
                let highest = |of: fn(&shard_sync::ShardReport) -> f32| {
                    field.shards.iter().map(of).reduce(f32::max).map_or(1.0, f64::from)
                };
                self.imbalance.get_or_create(&labels).set(highest(|shard| shard.imbalance));
                self.drift.get_or_create(&labels).set(highest(|shard| shard.upkeep.drift));
                self.inertia.get_or_create(&labels).set(highest(|shard| shard.upkeep.inertia));
                if let Some(lowest) = recalls.into_iter().reduce(f32::min) {
                    self.recall.get_or_create(&labels).set(f64::from(lowest));
                }
            }
        }
    }

    fn show_live(&self, of: &FieldLabels, measured: &Measured) {
        for (bound, value) in [("mean", measured.mean), ("low", measured.low), ("high", measured.high)] {
            let labels = RecallLabels { index: of.index.clone(), field: of.field.clone(), bound };
            self.live_recall.get_or_create(&labels).set(value);
        }
        self.live_samples.get_or_create(of).set(measured.samples as i64);
    }
}
