//! One step of a history, drawn from the seed and its number alone, so that any part of a history can be
//! played again without the rest.

use std::fmt;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::document::Doc;
use super::indices::{INDICES, PAIRS};
use crate::{Faults, Trouble};

/// Documents named by number; further ones get their ids from Elasticsearch.
pub(super) const IDS: u32 = 48;
/// Pairs of documents that are only ever written together.
pub(super) const PAIRS_OF_DOCUMENTS: u32 = 12;

/// Through which door a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// Past the sidecars, as Kibana or another node would.
    Direct,
    /// Through one of them.
    Sidecar(usize),
}

/// `refresh` of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Not given, or `false`.
    No,
    /// `refresh=true`.
    True,
    /// `?refresh`.
    Empty,
    /// `refresh=wait_for`; `true` where nothing would end the wait.
    WaitFor,
}

/// On what a write depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing.
    None,
    /// `if_seq_no` of the newest acknowledged write of this document.
    Current,
    /// `if_seq_no` that is wrong.
    Stale,
    /// `version_type=external`.
    External,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// `index`.
    Index(Doc),
    /// `create`: refused where the document is there.
    Create(Doc),
    /// `update` with parts.
    Update(Doc),
    /// The same, made where it is missing.
    UpdateAsUpsert(Doc),
    /// `doc` where it is there, `upsert` where it is not.
    UpdateOrUpsert(Doc, Doc),
    /// An update that changes nothing, found out (`detect_noop`) or written all the same.
    UpdateNothing { detect_noop: bool },
    /// `delete`.
    Delete,
}

/// One write of one document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    /// `None`: Elasticsearch makes one.
    pub(super) id: Option<u32>,
    /// `routing`.
    pub(super) routing: Option<u32>,
    /// See [`Condition`].
    pub(super) condition: Condition,
    /// See [`Act`].
    pub(super) act: Act,
}

/// How the bytes of a bulk look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// The index stands in each line, not in the path.
    pub(super) index_in_lines: bool,
    /// Lines end with `\r\n`.
    pub(super) crlf: bool,
    /// Blank lines between pairs.
    pub(super) blank_lines: bool,
    /// Compressed.
    pub(super) gzip: bool,
    /// `filter_path` hides what the writes did.
    pub(super) hidden: bool,
}

/// What a `_by_query` job does, as the single operations that it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// `_delete_by_query`.
    Delete,
    /// `_update_by_query` without a script.
    Touch,
    /// `_reindex` into another index.
    CopyTo(usize),
}

/// Trouble with processes, disks and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of a sidecar; it comes back after so many steps.
    Kill { sidecar: usize, steps: u32 },
    /// An orderly end and a new start.
    Terminate { sidecar: usize },
    /// SIGSTOP, and SIGCONT after so many milliseconds.
    Pause { sidecar: usize, time: Duration },
    /// The sidecar's files cannot grow for so many steps.
    FullDisk { sidecar: usize, steps: u32 },
    /// The connections between a sidecar and Elasticsearch, for a while.
    Network { sidecar: usize, faults: Faults, time: Duration },
    /// SIGSTOP of an Elasticsearch node, and SIGCONT after so many milliseconds.
    PauseNode { node: usize, time: Duration },
    /// A node of a cluster ends; it comes back after so many steps.
    LoseNode { node: usize, hard: bool, steps: u32 },
    /// An end and a new start of an Elasticsearch node, while writes go on.
    RestartNode { node: usize, hard: bool },
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// `_bulk`.
    Bulk { via: Via, index: usize, writes: Vec<Write>, style: Style, refresh: Refresh },
    /// One of the document APIs.
    Single { via: Via, index: usize, write: Write, refresh: Refresh },
    /// A pair of documents in one bulk.
    Pair { via: Via, number: u32, delete: bool, refresh: bool },
    /// See [`Job`].
    ByQuery { via: Via, index: usize, job: Job, remainder: u64 },
    /// `_refresh` of one index or of all.
    Refresh { via: Via, index: Option<usize> },
    /// `refresh_interval`.
    Interval { via: Via, index: usize, interval: &'static str },
    /// The alias goes to another index.
    MoveAlias { via: Via, index: usize },
    /// Deleted and made again under its name.
    Recreate { via: Via, index: usize },
    /// `_close` and `_open`.
    CloseAndOpen { via: Via, index: usize },
    /// `_forcemerge`.
    ForceMerge { via: Via, index: usize },
    /// `_flush`.
    Flush { via: Via, index: usize },
    /// Bulks of a second client that go on beside the next steps.
    Burst { via: Via, index: usize, bulks: u32 },
    /// See [`Fault`].
    Fault(Fault),
    /// Everything comes to rest; all sidecars and fields are compared.
    Agree,
}

/// What a history may contain.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Number of sidecars.
    pub sidecars: usize,
    /// Number of Elasticsearch nodes.
    pub nodes: usize,
    /// Whether there are faults.
    pub faults: bool,
}

impl Step {
    /// The step with this number.
    pub(super) fn draw(seed: u64, number: u64, scope: Scope) -> Self {
        if number % 150 == 149 {
            return Step::Agree;
        }
        let mut draw =
            Draw { random: Xoshiro256PlusPlus::seed_from_u64(seed.rotate_left(32) ^ number), scope };
        draw.step()
    }
}

struct Draw {
    random: Xoshiro256PlusPlus,
    scope: Scope,
}

impl Draw {
    fn one_in(&mut self, n: u32) -> bool {
        self.random.gen_range(0..n) == 0
    }

    fn step(&mut self) -> Step {
        let (via, index) = (self.via(), self.random.gen_range(0..INDICES.len()));
        match self.random.gen_range(0..1000) {
            0..300 => self.bulk(via, index),
            300..520 => {
                let (write, refresh) = (self.write(), self.refresh());
                Step::Single { via, index, write, refresh }
            }
            520..620 => {
                let (number, delete) = (self.random.gen_range(0..PAIRS_OF_DOCUMENTS), self.one_in(5));
                Step::Pair { via, number, delete, refresh: self.one_in(3) }
            }
            620..650 => {
                let others = (index + 1 + self.random.gen_range(0..INDICES.len() - 1)) % INDICES.len();
                let job =
                    *[Job::Delete, Job::Touch, Job::CopyTo(others)].choose(&mut self.random).expect("some");
                Step::ByQuery { via, index, job, remainder: self.random.gen_range(0..6) }
            }
            650..860 => Step::Refresh { via, index: (!self.one_in(6)).then_some(index) },
            860..890 => {
                let intervals = ["-1", "1s", "30s", "200ms"];
                Step::Interval { via, index, interval: intervals[self.random.gen_range(0..intervals.len())] }
            }
            890..905 => Step::MoveAlias { via, index },
            905..910 => Step::Recreate { via: Via::Sidecar(self.sidecar()), index },
            910..918 => Step::CloseAndOpen { via, index },
            918..926 => Step::ForceMerge { via, index },
            926..940 => Step::Flush { via, index },
            940..960 => Step::Burst { via, index, bulks: self.random.gen_range(3..12) },
            960..1000 if self.scope.faults => Step::Fault(self.fault()),
            _ => Step::Refresh { via, index: Some(index) },
        }
    }

    fn sidecar(&mut self) -> usize {
        self.random.gen_range(0..self.scope.sidecars)
    }

    fn via(&mut self) -> Via {
        if self.one_in(4) { Via::Direct } else { Via::Sidecar(self.sidecar()) }
    }

    fn refresh(&mut self) -> Refresh {
        match self.random.gen_range(0..20) {
            0..14 => Refresh::No,
            14..17 => Refresh::True,
            17 => Refresh::Empty,
            _ => Refresh::WaitFor,
        }
    }

    fn bulk(&mut self, via: Via, index: usize) -> Step {
        let count = if self.one_in(8) { self.random.gen_range(10..40) } else { self.random.gen_range(1..8) };
        let writes = (0..count).map(|_| self.write()).collect();
        let style = Style {
            index_in_lines: self.one_in(3),
            crlf: self.one_in(8),
            blank_lines: self.one_in(10),
            gzip: self.one_in(6),
            hidden: self.one_in(12),
        };
        Step::Bulk { via, index, writes, style, refresh: self.refresh() }
    }

    /// One write of one document.
    fn write(&mut self) -> Write {
        let routing = self.one_in(5).then(|| self.random.gen_range(0..3));
        let condition = match self.random.gen_range(0..20) {
            0 | 1 => Condition::Current,
            2 => Condition::Stale,
            3 => Condition::External,
            _ => Condition::None,
        };
        let id = Some(self.random.gen_range(0..IDS));
        let (id, condition, act) = match self.random.gen_range(0..100) {
            0..45 => (id, condition, Act::Index(self.doc())),
            45..52 => (None, Condition::None, Act::Index(self.doc())),
            52..58 => (id, Condition::None, Act::Create(self.doc())),
            58..70 => (id, condition, Act::Update(self.part())),
            70..74 => (id, condition, Act::UpdateAsUpsert(self.part())),
            74..78 => (id, condition, Act::UpdateOrUpsert(self.part(), self.doc())),
            78..82 => (id, condition, Act::UpdateNothing { detect_noop: self.one_in(2) }),
            _ => (id, condition, Act::Delete),
        };
        // An update knows no external versions.
        let is_update = matches!(
            act,
            Act::Update(_) | Act::UpdateAsUpsert(_) | Act::UpdateOrUpsert(..) | Act::UpdateNothing { .. }
        );
        let upserts = matches!(act, Act::UpdateAsUpsert(_) | Act::UpdateOrUpsert(..));
        let condition = match condition {
            Condition::External if is_update => Condition::None,
            // Elasticsearch refuses a whole bulk that holds an upsert under a condition.
            Condition::Current | Condition::Stale if upserts => Condition::None,
            other => other,
        };
        Write { id, routing, condition, act }
    }

    fn doc(&mut self) -> Doc {
        Doc::draw(&mut self.random, false)
    }

    fn part(&mut self) -> Doc {
        Doc::draw(&mut self.random, true)
    }

    fn fault(&mut self) -> Fault {
        let (sidecar, steps) = (self.sidecar(), self.random.gen_range(2..25));
        let node = self.random.gen_range(0..self.scope.nodes);
        let time = Duration::from_millis(self.random.gen_range(20..1500));
        match self.random.gen_range(0..100) {
            0..18 => Fault::Kill { sidecar, steps },
            18..26 => Fault::Terminate { sidecar },
            26..42 => Fault::Pause { sidecar, time },
            42..52 => Fault::FullDisk { sidecar, steps },
            52..84 => {
                let late = self.random.gen_range(5..400);
                let troubles = [
                    Trouble::LoseRequest,
                    Trouble::LoseResponse,
                    Trouble::CutResponse,
                    Trouble::Delay(late),
                    Trouble::RepeatRequest,
                ];
                let trouble = troubles[self.random.gen_range(0..troubles.len())];
                let faults = Faults { trouble, one_in: self.random.gen_range(1..12) };
                Fault::Network { sidecar, faults, time }
            }
            84..94 if self.scope.nodes > 1 => {
                Fault::LoseNode { node, hard: self.one_in(2), steps: steps + 20 }
            }
            84..96 => Fault::PauseNode { node, time },
            _ => Fault::RestartNode { node, hard: self.one_in(2) },
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Bulk { via, index, writes, style, refresh } => {
                write!(f, "bulk {via:?} {} refresh={refresh:?} {style:?}", INDICES[*index].name)?;
                writes.iter().try_for_each(|write| write!(f, "\n        {write}"))
            }
            Step::Single { via, index, write, refresh } => {
                write!(f, "single {via:?} {} refresh={refresh:?} {write}", INDICES[*index].name)
            }
            Step::Pair { via, number, delete, refresh } => {
                write!(f, "pair {number} {via:?} {} delete={delete} refresh={refresh}", INDICES[PAIRS].name)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id={:?} routing={:?} {:?} {:?}", self.id, self.routing, self.condition, self.act)
    }
}
