//! Every index that is followed, and the table that searches look their field up in.
//!
//! The table is swapped whole and read without locks: [`Registry::field`] stands on the path of
//! every search.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use es_wire::{Catalog, IndexInfo};
use knn_types::{IndexKey, KnnIndex};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::filters::IndexFilters;
use crate::shard::Shard;
use crate::sleep::Activity;

/// Whether a field can be searched here.
#[derive(Clone)]
pub enum FieldState {
    /// One index per shard, in shard order.
    Ready(Arc<[Arc<dyn KnnIndex>]>),
    /// Followed, but not learnt wholly yet.
    Building,
    /// The engine refused something; it is tried again, and the log says what.
    Broken,
    /// Its vectors cannot be read back from this version of Elasticsearch.
    Unreadable,
    /// Not a field of ours, or its index is closed or gone.
    Unknown,
}

impl std::fmt::Debug for FieldState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FieldState::Ready(shards) => write!(f, "Ready({} shards)", shards.len()),
            FieldState::Building => f.write_str("Building"),
            FieldState::Broken => f.write_str("Broken"),
            FieldState::Unreadable => f.write_str("Unreadable"),
            FieldState::Unknown => f.write_str("Unknown"),
        }
    }
}

/// One index with fields of ours, open and not left to Elasticsearch.
pub(crate) struct IndexEntry {
    pub(crate) uuid: Arc<str>,
    pub(crate) info: ArcSwap<IndexInfo>,
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) states: ArcSwap<HashMap<Arc<str>, FieldState>>,
    /// What `states` and `info` say, for those who ask often.
    ready: AtomicBool,
    making_states: Mutex<()>,
    can_be_followed: AtomicBool,
    pub(crate) activity: Activity,
    pub(crate) filters: IndexFilters,
    /// First builds are cancelled until somebody starts them again.
    pub(crate) build_cancelled: watch::Sender<bool>,
    /// What was open before the index was closed; a restore meanwhile may have made it worthless.
    pub(crate) earlier: Mutex<Vec<IndexKey>>,
    /// Pulls and upkeep of this index; awaited before its files go.
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
}

impl IndexEntry {
    fn new(info: &Arc<IndexInfo>, parent: &CancellationToken) -> Arc<Self> {
        let entry = Arc::new(Self {
            uuid: Arc::clone(&info.uuid),
            info: ArcSwap::new(Arc::clone(info)),
            shards: (0..info.shards).map(|number| Arc::new(Shard::new(number))).collect(),
            states: ArcSwap::default(),
            ready: AtomicBool::new(false),
            making_states: Mutex::default(),
            can_be_followed: AtomicBool::new(false),
            activity: Activity::default(),
            filters: IndexFilters::default(),
            build_cancelled: watch::channel(false).0,
            earlier: Mutex::default(),
            tasks: TaskTracker::new(),
            cancel: parent.child_token(),
        });
        entry.refresh_states();
        tell_unreadable(info);
        entry
    }

    /// Takes in what the cluster state now says of this index.
    fn update(&self, info: &Arc<IndexInfo>) {
        let before = self.info.swap(Arc::clone(info));
        let same = before.fields.len() == info.fields.len()
            && before.fields.iter().zip(&info.fields).all(|((name, old), (other, new))| {
                name == other && old.spec == new.spec && old.readable == new.readable
            });
        if !same {
            tell_unreadable(info);
            self.shards.iter().for_each(|shard| shard.state.lock().pull_again());
            self.refresh_states();
        }
    }

    /// Makes the table of this index anew. Called when a shard became searchable, or ceased to be.
    pub(crate) fn refresh_states(&self) {
        let _one_at_a_time = self.making_states.lock();
        let info = self.info.load_full();
        let states: HashMap<_, _> =
            info.fields.keys().map(|field| (Arc::clone(field), self.state_of(field))).collect();
        let ready = !states.is_empty() && states.values().all(|state| matches!(state, FieldState::Ready(_)));
        self.states.store(Arc::new(states));
        self.ready.store(ready, Ordering::Release);
        self.can_be_followed.store(info.fields.values().any(|field| field.readable), Ordering::Release);
    }

    fn state_of(&self, field: &str) -> FieldState {
        if self.info.load().fields.get(field).is_some_and(|field| !field.readable) {
            return FieldState::Unreadable;
        }
        let mut indexes = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let state = shard.state.lock();
            // Nobody waits for what a broken shard lacks, so nobody may be shown what it has.
            match state.fields.get(field) {
                _ if state.broken => return FieldState::Broken,
                Some(index) if index.built.load(Ordering::Acquire) => indexes.push(Arc::clone(&index.index)),
                _ => return FieldState::Building,
            }
        }
        FieldState::Ready(indexes.into())
    }

    /// Every field can be searched.
    pub(crate) fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Every field can be searched, or nothing is under way to make it so.
    pub(crate) fn settled(&self) -> bool {
        let unreadable = |state: &FieldState| matches!(state, FieldState::Ready(_) | FieldState::Unreadable);
        *self.build_cancelled.borrow() || self.states.load().values().all(unreadable)
    }

    /// Some field can be learnt.
    pub(crate) fn can_be_followed(&self) -> bool {
        self.can_be_followed.load(Ordering::Acquire)
    }

    /// Cancels first builds of this index, or starts them again.
    pub(crate) fn cancel_build(&self, cancelled: bool) {
        for shard in &self.shards {
            shard.state.lock().build_cancelled = cancelled;
        }
        self.build_cancelled.send_replace(cancelled);
    }

    /// Left asleep, as Elasticsearch leaves the shards of an index that nobody searches.
    pub(crate) fn asleep(&self) -> bool {
        !self.info.load().explicit_refresh && self.activity.asleep()
    }

    /// Keys of everything that is open.
    pub(crate) fn keys(&self) -> Vec<IndexKey> {
        let keys = |shard: &Arc<Shard>| -> Vec<IndexKey> {
            shard.state.lock().fields.values().map(|field| field.key.clone()).collect()
        };
        self.shards.iter().flat_map(keys).collect()
    }
}

/// An operator must hear of a field that will never be searched here.
fn tell_unreadable(info: &IndexInfo) {
    for (field, _) in info.fields.iter().filter(|(_, field)| !field.readable) {
        tracing::warn!(
            index = %info.name,
            %field,
            "not indexed: _source is without this field, and this version of Elasticsearch returns vectors in no other \
             way; 8.17 and later do"
        );
    }
}

/// What became of indices that are no longer followed.
#[derive(Default)]
pub(crate) struct Departed {
    /// Deleted, or their fields are no longer ours: files go.
    pub(crate) gone: Vec<Arc<IndexEntry>>,
    /// Deleted while closed: files go.
    pub(crate) gone_keys: Vec<IndexKey>,
    /// Closed, or left to Elasticsearch: files stay.
    pub(crate) closed: Vec<Arc<IndexEntry>>,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Registry {
    by_uuid: ArcSwap<HashMap<Arc<str>, Arc<IndexEntry>>>,
    /// Keys of closed indices, in case they are deleted while closed.
    closed: Mutex<HashMap<Arc<str>, Vec<IndexKey>>>,
    /// Indices whose pulls have not ended, or whose files have not gone, since they departed. One that
    /// comes back (reopened, adopted again) is followed only after that: two feeds on one index, or a
    /// late removal, would do harm.
    departing: Mutex<HashSet<Arc<str>>>,
}

impl Registry {
    /// Follows what the catalog says, and returns what is no longer followed.
    pub(crate) fn reconcile(
        &self,
        catalog: &Catalog,
        idle_after: Duration,
        parent: &CancellationToken,
    ) -> Departed {
        let before = self.by_uuid.load_full();
        let mut departed = Departed::default();
        let mut followed = HashMap::new();
        let mut known_closed = HashMap::new();
        for info in catalog.adopted() {
            if !info.can_be_followed() {
                known_closed.insert(Arc::clone(&info.uuid), ());
                continue;
            }
            // A split or shrunk index has another uuid; the number of shards of one uuid is fixed.
            let entry = match before.get(&info.uuid) {
                Some(entry) => {
                    entry.update(info);
                    entry.activity.set_idle_after(info.search_idle_after.unwrap_or(idle_after));
                    Arc::clone(entry)
                }
                None if self.departing.lock().contains(&info.uuid) => continue,
                None => {
                    let entry = IndexEntry::new(info, parent);
                    entry.activity.set_idle_after(info.search_idle_after.unwrap_or(idle_after));
                    *entry.earlier.lock() = self.closed.lock().remove(&info.uuid).unwrap_or_default();
                    entry
                }
            };
            followed.insert(Arc::clone(&info.uuid), entry);
        }
        let mut closed = self.closed.lock();
        for (uuid, entry) in before.iter().filter(|(uuid, _)| !followed.contains_key(*uuid)) {
            entry.cancel.cancel();
            self.departing.lock().insert(Arc::clone(uuid));
            if known_closed.contains_key(uuid) {
                closed.insert(Arc::clone(uuid), entry.keys());
                departed.closed.push(Arc::clone(entry));
            } else {
                departed.gone.push(Arc::clone(entry));
            }
        }
        closed.retain(|uuid, keys| {
            if known_closed.contains_key(uuid) {
                return true;
            }
            if !followed.contains_key(uuid) {
                departed.gone_keys.append(keys);
            }
            false
        });
        drop(closed);
        self.by_uuid.store(Arc::new(followed));
        departed
    }

    /// A departure is complete: the index may be followed again.
    pub(crate) fn has_departed(&self, uuid: &str) {
        self.departing.lock().remove(uuid);
    }

    /// The index with this uuid, if it is followed.
    pub(crate) fn get(&self, uuid: &str) -> Option<Arc<IndexEntry>> {
        self.by_uuid.load().get(uuid).cloned()
    }

    /// All that are followed.
    pub(crate) fn all(&self) -> Vec<Arc<IndexEntry>> {
        self.by_uuid.load().values().cloned().collect()
    }

    /// Those among them that are `wanted`.
    pub(crate) fn select(&self, wanted: impl Fn(&IndexEntry) -> bool) -> Vec<Arc<IndexEntry>> {
        self.by_uuid.load().values().filter(|entry| wanted(entry)).cloned().collect()
    }

    /// Whether a field can be searched. No lock, one clone of an `Arc`.
    pub(crate) fn field(&self, uuid: &str, field: &str) -> FieldState {
        let by_uuid = self.by_uuid.load();
        let Some(entry) = by_uuid.get(uuid) else { return FieldState::Unknown };
        entry.states.load().get(field).cloned().unwrap_or(FieldState::Unknown)
    }

    /// Whether a client may search the index without waking it; see [`Activity`].
    pub(crate) fn touch(&self, uuid: &str) -> bool {
        let by_uuid = self.by_uuid.load();
        let Some(entry) = by_uuid.get(uuid) else { return false };
        if entry.asleep() {
            return true;
        }
        entry.activity.searched();
        false
    }
}
