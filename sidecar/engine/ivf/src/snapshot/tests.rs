//! Snapshots under damage: every flipped byte, every missing or shortened file, every step at
//! which the disk can fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knn_types::{
    Change, ChangeKind, DocKey, Epoch, FieldSpec, Hit, IndexKey, IvfOptions, KnnEngine, KnnIndex, Metric,
    Query, SeqNo,
};

use crate::{Engine, EngineConfig};

const DIMS: usize = 4;

fn key(field: &str) -> IndexKey {
    IndexKey { index_uuid: "u-1".into(), shard: 3, history_uuid: "h/ä".into(), field: field.into() }
}

fn spec() -> FieldSpec {
    FieldSpec { dims: DIMS, metric: Metric::L2, options: IvfOptions::default() }
}

fn engine(dir: &Path) -> Engine {
    let config = EngineConfig { data_dir: Some(dir.to_path_buf()), exact_below: 200, train_threads: 1 };
    Engine::open(config).unwrap()
}

fn row(n: u64) -> Vec<f32> {
    (0..DIMS as u64).map(|d| ((n * 7 + d * 13) % 101) as f32 + n as f32 / 1000.0).collect()
}

fn fill(index: &dyn KnnIndex, numbers: std::ops::Range<u64>, cursor: i64) {
    let change = |n: u64| Change {
        doc: DocKey { id: format!("doc{n}").into(), routing: n.is_multiple_of(5).then(|| "r".into()) },
        order: SeqNo { primary_term: 1, seq_no: n },
        kind: ChangeKind::Upsert(row(n)),
    };
    index.stage(numbers.map(change).collect()).unwrap();
    index.publish(Epoch { cursor, max_seq_no: cursor, primary_term: 1 }).unwrap();
}

fn delete(index: &dyn KnnIndex, n: u64, seq_no: u64) {
    let order = SeqNo { primary_term: 1, seq_no };
    index
        .stage(vec![Change { doc: DocKey::new(format!("doc{n}")), order, kind: ChangeKind::Delete }])
        .unwrap();
    index.publish(Epoch { cursor: seq_no as i64, max_seq_no: seq_no as i64, primary_term: 1 }).unwrap();
}

/// Everything, nearest first.
fn all(index: &dyn KnnIndex) -> (Epoch, Vec<Hit>) {
    let view = index.view();
    let query = Query { vector: &[50.0; DIMS], k: 10_000, num_candidates: 10_000, nprobe: None };
    (view.epoch(), view.search(&query).unwrap().hits)
}

/// A small index with lists, a deletion and a routing, saved.
fn saved(dir: &Path, field: &str) -> Arc<dyn KnnIndex> {
    let engine = engine(dir);
    let index = engine.open(&key(field), &spec()).unwrap();
    fill(&*index, 0..300, 300);
    delete(&*index, 1, 301);
    while index.maintain().unwrap() {}
    assert!(index.snapshot().unwrap());
    assert!(!index.snapshot().unwrap(), "nothing changed");
    index
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()))
        } else {
            files.push(entry.path())
        }
    }
    files.sort();
    files
}

#[test]
fn what_was_saved_comes_back_with_its_lists() {
    let dir = tempfile::tempdir().unwrap();
    let before = saved(dir.path(), "v");
    let after = engine(dir.path()).open(&key("v"), &spec()).unwrap();
    assert_eq!(all(&*after), all(&*before));
    let (before_stats, stats) = (before.stats(), after.stats());
    assert_eq!(
        (stats.nlist, stats.nprobe, stats.recall),
        (before_stats.nlist, before_stats.nprobe, before_stats.recall)
    );
    assert!(stats.nlist > 1 && stats.disk_bytes > 0);
    assert!(!after.maintain().unwrap(), "nothing to train again");
    // The remembered deletion still wins over an older version.
    let old = SeqNo { primary_term: 1, seq_no: 1 };
    after
        .stage(vec![Change { doc: DocKey::new("doc1"), order: old, kind: ChangeKind::Upsert(row(1)) }])
        .unwrap();
    assert_eq!(after.order_of(&DocKey::new("doc1")), None);
    // And the mapped part takes new entries.
    fill(&*after, 300..310, 310);
    assert_eq!(all(&*after).1.len(), 309);
}

#[test]
fn another_field_or_another_kind_of_field_starts_empty() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), "v");
    assert!(engine(dir.path()).open(&key("w"), &spec()).unwrap().view().is_empty());
    let cosine = FieldSpec { metric: Metric::Cosine, ..spec() };
    assert!(engine(dir.path()).open(&key("v"), &cosine).unwrap().view().is_empty());
    assert_eq!(engine(dir.path()).open(&key("v"), &spec()).unwrap().view().len(), 299, "neither did harm");
}

#[test]
fn every_flipped_byte_is_detected_and_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), "v");
    let files = files_below(dir.path());
    assert_eq!(files.len(), 4, "{files:?}");
    let mut tried = 0;
    for file in &files {
        let good = fs::read(file).unwrap();
        // All bytes of small files and of both ends, a stride through the rest.
        let stride = (good.len() / 150).max(1);
        for at in (0..good.len()).filter(|at| *at < 40 || good.len() - at < 40 || at % stride == 0) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(file, &bad).unwrap();
            let index = engine(dir.path()).open(&key("v"), &spec()).unwrap();
            assert!(index.view().is_empty(), "{} byte {at}", file.display());
            restore_aside(dir.path(), file, &good);
            tried += 1;
        }
    }
    assert!(tried > 400, "{tried}");
    assert_eq!(engine(dir.path()).open(&key("v"), &spec()).unwrap().view().len(), 299);
}

/// Gives the snapshot that was set aside its name back, and `file` its content.
fn restore_aside(dir: &Path, file: &Path, good: &[u8]) {
    let root = fs::read_dir(dir).unwrap().flatten().next().unwrap().path();
    let aside: Vec<PathBuf> = fs::read_dir(&root).unwrap().flatten().map(|entry| entry.path()).collect();
    let [aside] = aside.as_slice() else { panic!("one directory set aside: {aside:?}") };
    assert!(aside.to_str().unwrap().contains(".damaged-"), "{}", aside.display());
    fs::rename(aside, file.parent().unwrap()).unwrap();
    fs::write(file, good).unwrap();
}

#[test]
fn shortened_lengthened_missing_and_foreign_files_are_detected() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), "v");
    for file in files_below(dir.path()) {
        let good = fs::read(&file).unwrap();
        let shortened = good[..good.len() - 4].to_vec();
        let lengthened = [&good[..], &[0; 4]].concat();
        for bad in [Some(shortened), Some(lengthened), Some(Vec::new()), None] {
            match bad {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            assert!(
                engine(dir.path()).open(&key("v"), &spec()).unwrap().view().is_empty(),
                "{}",
                file.display()
            );
            restore_aside(dir.path(), &file, &good);
        }
    }
}

#[test]
fn an_unknown_version_is_set_aside_and_at_most_two_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        saved(dir.path(), "v");
        let manifest = files_below(dir.path())
            .into_iter()
            .rfind(|file| file.ends_with("manifest.json") && !file.to_str().unwrap().contains("damaged"))
            .unwrap();
        let text = fs::read_to_string(&manifest).unwrap();
        let (json, _) = text.rsplit_once("\ncrc32").unwrap();
        let json = json.replacen("\"version\": 1", "\"version\": 999", 1);
        let checksum = crc32fast::hash(json.as_bytes());
        fs::write(&manifest, format!("{json}\ncrc32 {checksum:08x}\n")).unwrap();
        assert!(engine(dir.path()).open(&key("v"), &spec()).unwrap().view().is_empty());
    }
    let root = fs::read_dir(dir.path()).unwrap().flatten().next().unwrap().path();
    assert_eq!(fs::read_dir(root).unwrap().count(), 2);
}

/// A crash or a full disk at any step leaves the state before or the state after, never a third.
#[test]
fn a_failure_at_any_step_leaves_a_sound_snapshot() {
    let mut failed = 0;
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        saved(dir.path(), "v");
        let engine = engine(dir.path());
        let index = engine.open(&key("v"), &spec()).unwrap();
        let before = all(&*index);
        fill(&*index, 300..400, 400);
        let after = all(&*index);
        engine.faults.after(steps);
        let result = index.snapshot();
        assert_eq!(all(&*index), after, "it goes on serving");
        let found = all(&*self::engine(dir.path()).open(&key("v"), &spec()).unwrap());
        match result {
            Ok(written) => {
                assert!(written && found == after);
                if !files_below(dir.path()).iter().any(|file| file.to_str().unwrap().contains("snapshot-0")) {
                    break;
                }
            }
            Err(error) => {
                assert!(matches!(error, knn_types::EngineError::Io { .. }));
                assert!(found == before || found == after, "step {steps}: neither state");
                failed += 1;
                engine.faults.after(usize::MAX);
                assert!(index.snapshot().unwrap(), "it works again once the disk does");
                assert_eq!(all(&*self::engine(dir.path()).open(&key("v"), &spec()).unwrap()), after);
            }
        }
    }
    assert!(failed >= 10, "{failed}");
}

#[test]
fn full_groups_are_linked_into_the_next_snapshot_and_leave_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let spec = FieldSpec { dims: 4_096, ..spec() };
    let engine = engine(dir.path());
    let index = engine.open(&key("v"), &spec).unwrap();
    // 64 slots in a chunk, 128 chunks in a group: one group and a little more.
    let upsert = |n: u64| Change {
        doc: DocKey::new(n.to_string()),
        order: SeqNo { primary_term: 1, seq_no: n },
        kind: ChangeKind::Upsert(vec![n as f32; 4_096]),
    };
    let publish = |numbers: std::ops::Range<u64>| {
        let cursor = numbers.end as i64;
        index.stage(numbers.map(upsert).collect()).unwrap();
        index.publish(Epoch { cursor, max_seq_no: cursor, primary_term: 1 }).unwrap();
    };
    publish(0..8_200);
    assert!(index.stats().memory_bytes > 8_192 * 16_384);
    assert!(index.snapshot().unwrap());
    assert!(index.stats().memory_bytes < 4 << 20, "{}", index.stats().memory_bytes);
    assert!(!index.snapshot().unwrap(), "mapping is no change");
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        let file = files_below(dir.path()).into_iter().find(|file| file.ends_with(name)).unwrap();
        fs::metadata(file).unwrap().ino()
    };
    let (full, tail) = (inode("rows-0.bin"), inode("rows-1.bin"));
    publish(8_200..8_210);
    assert!(index.snapshot().unwrap());
    assert_eq!(inode("rows-0.bin"), full);
    assert_ne!(inode("rows-1.bin"), tail);
    let query = Query { vector: &[77.0; 4_096], k: 1, num_candidates: 1, nprobe: None };
    assert_eq!(&*index.view().search(&query).unwrap().hits[0].doc.id, "77");
    let again = self::engine(dir.path()).open(&key("v"), &spec).unwrap();
    assert_eq!(&*again.view().search(&query).unwrap().hits[0].doc.id, "77");
}

#[test]
fn remove_and_sweep_delete_files_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for field in ["a", "b", "c", "dotted.path/with spaces", &"long".repeat(200)] {
        saved(dir.path(), field);
    }
    fs::create_dir(dir.path().join("somebody-elses")).unwrap();
    let engine = engine(dir.path());
    let a = engine.open(&key("a"), &spec()).unwrap();
    engine.remove(&key("a"));
    fill(&*a, 400..401, 401);
    assert!(!a.snapshot().unwrap(), "a removed index writes no more");
    assert_eq!(a.view().len(), 300, "and still answers");
    let c = engine.open(&key("c"), &spec()).unwrap();
    engine.sweep(&|key| &*key.field != "b" && &*key.field != "c");
    let left = |field: &str| !self::engine(dir.path()).open(&key(field), &spec()).unwrap().view().is_empty();
    assert!(!left("a") && !left("b"));
    assert!(left("c") && left("dotted.path/with spaces") && left(&"long".repeat(200)));
    assert!(dir.path().join("somebody-elses").exists());
    assert_eq!(c.view().len(), 299);
    assert!(Arc::ptr_eq(&c, &engine.open(&key("c"), &spec()).unwrap()), "opening twice gives the same index");
}
