//! Every step that changes the disk, in many histories, fails once: before it begins, in its middle, at
//! its end; with all that come later (the process dies there) or alone (the disk works again). Whoever
//! opens the index afterwards finds the state before or the state after, and the history goes on.

use std::path::Path;
use std::sync::Arc;

use knn_types::{
    Change, ChangeKind, DocKey, Element, Epoch, FieldSpec, Hit, IndexKey, IvfOptions, KnnEngine, KnnIndex,
    Metric, Query, SeqNo,
};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::faults::{Plan, When};
use crate::{Engine, EngineConfig, Spill};

const DIMS: usize = 4;
const DOCS: u64 = 70;

/// What a search for everything gives, nearest first.
type Seen = (Epoch, Vec<Hit>);

#[derive(Clone, Debug)]
enum Op {
    /// Documents with new vectors, or none: a deletion.
    Publish(Vec<(u64, Option<[f32; DIMS]>)>),
    Rollback(u64),
    Maintain,
    Snapshot,
    /// As after a history that was rewritten.
    Remove,
    Reopen,
}

fn history(seed: u64) -> Vec<Op> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut ops = Vec::new();
    for number in 0..14 {
        let changes = if number == 0 { 40 } else { random.gen_range(1..20) };
        let mut change = |_| {
            let vector =
                (random.gen_range(0..5) > 0).then(|| std::array::from_fn(|_| random.gen_range(-4.0..4.0)));
            (random.gen_range(0..DOCS), vector)
        };
        ops.push(Op::Publish((0..changes).map(&mut change).collect()));
        match random.gen_range(0..10) {
            0..5 => ops.push(Op::Snapshot),
            5 => ops.extend([Op::Maintain, Op::Snapshot]),
            6 => ops.push(Op::Reopen),
            7 => ops.push(Op::Rollback(random.gen_range(0..60))),
            8 if random.gen_range(0..2) == 0 => ops.push(Op::Remove),
            _ => ops.push(Op::Maintain),
        }
    }
    ops.push(Op::Snapshot);
    ops
}

fn key() -> IndexKey {
    IndexKey { index_uuid: "u".into(), shard: 0, history_uuid: "h".into(), field: "v".into() }
}

/// An engine and its one index, as a process has them.
struct Process {
    engine: Engine,
    index: Arc<dyn KnnIndex>,
}

impl Process {
    fn start(dir: &Path, plan: Plan) -> Self {
        let config = EngineConfig {
            data_dir: Some(dir.to_path_buf()),
            exact_below: 30,
            train_threads: 1,
            spill: Spill::Auto,
            ..EngineConfig::default()
        };
        let engine = Engine::open(config).unwrap();
        engine.faults.set(plan);
        let index = engine.open(&key(), &spec()).unwrap();
        Self { engine, index }
    }

    /// Ends; returns the steps that its disk saw.
    fn end(self) -> usize {
        self.engine.faults.taken()
    }

    /// It was killed at the step that the plan names.
    fn is_dead(&self, plan: Plan) -> bool {
        plan.for_good && plan.fails.is_some_and(|(at, _)| self.engine.faults.taken() > at)
    }

    fn seen(&self) -> Seen {
        let view = self.index.view();
        let query =
            Query { vector: &[0.5; DIMS], k: 10_000, num_candidates: 10_000, nprobe: None, filter: None };
        (view.epoch(), view.search(&query).unwrap().hits)
    }
}

fn spec() -> FieldSpec {
    let options = IvfOptions { nlist: Some(4), ..IvfOptions::default() };
    FieldSpec { element: Element::Float, dims: DIMS, metric: Metric::L2, options }
}

/// What the disk may hold: what was saved last, and what was about to be when the fault came.
struct Saved {
    sure: Seen,
    possible: Vec<Seen>,
}

fn empty() -> Seen {
    (Epoch::EMPTY, Vec::new())
}

/// Plays a history; after a fault that is for good another process goes on where it was. Returns the
/// steps that the disk saw.
fn play(seed: u64, plan: Plan) -> usize {
    let what = format!("seed {seed}, {plan:?}");
    let dir = directory();
    // Of the process that runs.
    let mut left = plan;
    let mut process = Process::start(dir.path(), left);
    let mut saved = Saved { sure: empty(), possible: Vec::new() };
    let (mut seq_no, mut steps) = (0, 0);
    for op in history(seed) {
        let before = process.seen();
        match &op {
            Op::Publish(changes) => publish(&process, changes, &mut seq_no),
            Op::Rollback(back) => {
                let order = SeqNo { primary_term: 1, seq_no: seq_no.saturating_sub(*back) };
                process.index.rollback_above(order).unwrap();
            }
            Op::Maintain => while process.index.maintain().unwrap() {},
            Op::Snapshot => match process.index.snapshot() {
                Ok(_) => saved = Saved { sure: before.clone(), possible: Vec::new() },
                Err(_) => saved.possible.push(before.clone()),
            },
            Op::Remove => {
                process.engine.remove(&key());
                process.index = process.engine.open(&key(), &spec()).unwrap();
                assert_eq!(process.seen(), empty(), "{what}: removed, and opened by the same process");
                saved.possible.push(std::mem::replace(&mut saved.sure, empty()));
            }
            Op::Reopen => {
                let taken = process.end();
                steps += taken;
                left.fails = left.fails.and_then(|(at, when)| Some((at.checked_sub(taken)?, when)));
                process = Process::start(dir.path(), left);
                if !process.is_dead(left) {
                    is_saved(&process, &mut saved, &what);
                }
            }
        }
        let shows_the_same = matches!(op, Op::Maintain | Op::Snapshot);
        assert!(!shows_the_same || process.seen() == before, "{what}: {op:?} changed what is shown");
        if process.is_dead(left) {
            steps += process.end();
            left = Plan::default();
            process = Process::start(dir.path(), left);
            is_saved(&process, &mut saved, &what);
        }
    }
    process.index.snapshot().unwrap_or_else(|error| panic!("{what}: the disk works again, and yet {error}"));
    let last = process.seen();
    steps += process.end();
    let process = Process::start(dir.path(), Plan::default());
    assert_eq!(process.seen(), last, "{what}: the last snapshot");
    process.engine.sweep(&|_| true);
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(names.len() <= 1, "{what}: something is left behind: {names:?}");
    steps
}

fn is_saved(process: &Process, saved: &mut Saved, what: &str) {
    let found = process.seen();
    let known = found == saved.sure || saved.possible.contains(&found);
    assert!(known, "{what}: found {found:?}\nneither {:?}\nnor one of {:?}", saved.sure, saved.possible);
    *saved = Saved { sure: found, possible: Vec::new() };
}

fn publish(process: &Process, changes: &[(u64, Option<[f32; DIMS]>)], seq_no: &mut u64) {
    let mut change = |(doc, vector): &(u64, Option<[f32; DIMS]>)| {
        *seq_no += 1;
        let kind = vector.map_or(ChangeKind::Delete, |vector| ChangeKind::Upsert(vector.to_vec()));
        let order = SeqNo { primary_term: 1, seq_no: *seq_no };
        Change { doc: DocKey::new(format!("d{doc}")), order, kind }
    };
    process.index.stage(changes.iter().map(&mut change).collect()).unwrap();
    let position = *seq_no as i64;
    process.index.publish(Epoch { cursor: position, max_seq_no: position, primary_term: 1 }).unwrap();
}

/// In memory where there is such a place: there are thousands of snapshots to make durable.
fn directory() -> tempfile::TempDir {
    let in_memory = Path::new("/dev/shm");
    let made = if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn every_step_of_every_history_can_fail() {
    let mut points = 0;
    for seed in 0..12 {
        let steps = play(seed, Plan::default());
        for at in 0..steps {
            for when in [When::Before, When::Amid, When::After] {
                for for_good in [false, true] {
                    play(seed, Plan { taken: 0, fails: Some((at, when)), for_good });
                    points += 1;
                }
            }
        }
    }
    assert!(points > 4_000, "{points}");
}
