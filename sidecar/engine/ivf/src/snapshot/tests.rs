//! Snapshots under damage: every flipped byte, every missing or shortened file, every step at
//! which the disk can fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knn_types::{
    Change, ChangeKind, DocKey, Element, EngineError, Epoch, FieldSpec, Hit, IndexKey, IvfOptions, KnnEngine,
    KnnIndex, Metric, Query, SeqNo,
};

use super::manifest::VERSION;
use crate::{Engine, EngineConfig, Spill};

const DIMS: usize = 4;

fn key(field: &str) -> IndexKey {
    IndexKey { index_uuid: "u-1".into(), shard: 3, history_uuid: "h/ä".into(), field: field.into() }
}

fn spec() -> FieldSpec {
    FieldSpec { element: Element::Float, dims: DIMS, metric: Metric::L2, options: IvfOptions::default() }
}

fn engine(dir: &Path) -> Engine {
    let config = EngineConfig {
        data_dir: Some(dir.to_path_buf()),
        exact_below: 200,
        train_threads: 1,
        spill: Spill::Auto,
        ..EngineConfig::default()
    };
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
    let query =
        Query { vector: &[50.0; DIMS], k: 10_000, num_candidates: 10_000, nprobe: None, filter: None };
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
    assert_eq!(before_stats.curve, stats.curve);
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
fn centroids_leave_the_memory_once_a_snapshot_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(dir.path());
    let index = engine.open(&key("v"), &spec()).unwrap();
    fill(&*index, 0..3_000, 2_999);
    while index.maintain().unwrap() {}
    let (before, held) = (all(&*index), index.stats().memory_bytes);
    assert!(index.snapshot().unwrap());
    let stats = index.stats();
    // Vectors leave it, too: what is left must be less by more than those.
    let left = (3_000 + stats.nlist as u64) * DIMS as u64 * 4;
    assert!(stats.nlist > 10 && stats.memory_bytes + left <= held, "{held} {stats:?}");
    assert!(!index.snapshot().unwrap(), "reading from a file is no change");
    assert_eq!(all(&*index), before);
    // Vectors are still assigned and coded by them, here and after opening.
    let opened = self::engine(dir.path()).open(&key("v"), &spec()).unwrap();
    for index in [&index, &opened] {
        fill(&**index, 3_000..3_100, 3_099);
        let (_, hits) = all(&**index);
        assert_eq!(hits.len(), 3_100);
    }
    assert_eq!(all(&*index), all(&*opened));
    assert!(opened.stats().memory_bytes <= index.stats().memory_bytes);
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
    assert_eq!(files.len(), 6, "{files:?}");
    let mut tried = 0;
    for file in &files {
        let good = fs::read(file).unwrap();
        // All bytes of small files and of both ends, a stride through the rest.
        let stride = (good.len() / 60).max(1);
        for at in (0..good.len()).filter(|at| *at < 24 || good.len() - at < 24 || at % stride == 0) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(file, &bad).unwrap();
            assert_damaged(dir.path(), &format!("{} byte {at}", file.display()));
            restore_aside(dir.path(), file, &good);
            tried += 1;
        }
    }
    assert!(tried > 300, "{tried}");
    assert_eq!(engine(dir.path()).open(&key("v"), &spec()).unwrap().view().len(), 299);
}

/// Damage is found on opening, or, below the vectors themselves, by the first that uses them: a search,
/// or upkeep. Then the index is opened anew, empty.
fn assert_damaged(dir: &Path, what: &str) {
    let engine = engine(dir);
    let index = engine.open(&key("v"), &spec()).unwrap();
    if !index.view().is_empty() {
        assert!(!index.is_damaged(), "{what}");
        let query =
            Query { vector: &[50.0; DIMS], k: 10_000, num_candidates: 10_000, nprobe: None, filter: None };
        let error = index.view().search(&query).unwrap_err();
        assert!(matches!(error, EngineError::Damaged(_)), "{what}: {error}");
        assert!(index.is_damaged());
        assert!(index.view().search(&query).is_err(), "{what}: and again");
        fill(&*index, 900..901, 901);
        assert!(index.snapshot().is_err(), "{what}: nothing is written from damaged rows");
        let again = engine.open(&key("v"), &spec()).unwrap();
        assert!(again.view().is_empty() && !again.is_damaged(), "{what}");
        assert_eq!(again.view().epoch(), Epoch::EMPTY);
    }
    assert!(self::engine(dir).open(&key("v"), &spec()).unwrap().view().is_empty(), "{what}");
}

#[test]
fn upkeep_finds_damage_that_no_search_has_met() {
    let dir = tempfile::tempdir().unwrap();
    saved(dir.path(), "v");
    let rows = files_below(dir.path()).into_iter().find(|file| file.ends_with("rows-0.bin")).unwrap();
    let mut bytes = fs::read(&rows).unwrap();
    bytes[4_000] ^= 1;
    fs::write(&rows, bytes).unwrap();
    let index = engine(dir.path()).open(&key("v"), &spec()).unwrap();
    assert!(!index.is_damaged());
    assert!(matches!(index.maintain(), Err(EngineError::Damaged(_))));
    assert!(index.is_damaged());
}

#[test]
fn a_snapshot_of_version_1_is_read_and_the_next_one_is_of_this_version() {
    let dir = tempfile::tempdir().unwrap();
    let before = all(&*saved(dir.path(), "v"));
    // The same index, as the program wrote it when version 1 was the newest.
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1/snapshot-0");
    let to = files_below(dir.path())[0].parent().unwrap().to_path_buf();
    fs::remove_dir_all(&to).unwrap();
    fs::create_dir(&to).unwrap();
    for file in files_below(&old) {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
    let engine = engine(dir.path());
    let index = engine.open(&key("v"), &spec()).unwrap();
    assert_eq!(all(&*index), before);
    assert!(index.stats().nlist > 1 && !index.maintain().unwrap());
    assert_eq!(index.order_of(&DocKey::new("doc2")), Some(SeqNo { primary_term: 1, seq_no: 2 }));
    // The deletion that it remembers is known by the key's present form too.
    let old = SeqNo { primary_term: 1, seq_no: 1 };
    let late = Change { doc: DocKey::new("doc1"), order: old, kind: ChangeKind::Upsert(row(1)) };
    index.stage(vec![late]).unwrap();
    assert_eq!(index.order_of(&DocKey::new("doc1")), None);
    assert!(!index.snapshot().unwrap(), "nothing changed");
    fill(&*index, 300..301, 301);
    let after = all(&*index);
    assert!(index.snapshot().unwrap());
    assert_eq!(all(&*index), after, "read from the new files");
    assert_eq!(all(&*self::engine(dir.path()).open(&key("v"), &spec()).unwrap()), after);
    let manifest = files_below(dir.path()).into_iter().find(|file| file.ends_with("manifest.json")).unwrap();
    assert!(fs::read_to_string(manifest).unwrap().contains(&format!("\"version\": {VERSION}")));
}

#[test]
fn a_snapshot_writes_the_lists_that_changed_and_links_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let options = IvfOptions { nlist: Some(64), ..IvfOptions::default() };
    let spec = FieldSpec { options, ..spec() };
    let engine = engine(dir.path());
    let index = engine.open(&key("v"), &spec).unwrap();
    fill(&*index, 0..1_000, 1_000);
    while index.maintain().unwrap() {}
    assert!(index.snapshot().unwrap());
    let inodes = || {
        use std::os::unix::fs::MetadataExt;
        let files = files_below(dir.path()).into_iter();
        let named =
            files.map(|file| (file.file_name().unwrap().to_owned(), fs::metadata(file).unwrap().ino()));
        named.collect::<std::collections::BTreeMap<_, _>>()
    };
    let kept = |before: &std::collections::BTreeMap<_, u64>, name: &str| {
        inodes().get(std::ffi::OsStr::new(name)) == before.get(std::ffi::OsStr::new(name))
    };
    let lists = |before| (0..4).filter(|n| kept(before, &format!("lists-{n}.bin"))).count();
    let first = inodes();
    assert!(first.contains_key(std::ffi::OsStr::new("lists-3.bin")) && first.len() == 9, "{first:?}");
    // One vector goes to one list, in a file of sixteen of them.
    fill(&*index, 1_000..1_001, 1_001);
    assert!(index.snapshot().unwrap());
    assert_eq!(lists(&first), 3);
    assert!(kept(&first, "centroids.bin") && !kept(&first, "state.bin"));
    // A deletion changes none, nor does opening.
    let second = inodes();
    let index = self::engine(dir.path()).open(&key("v"), &spec).unwrap();
    delete(&*index, 7, 1_002);
    assert!(index.snapshot().unwrap());
    assert_eq!(lists(&second), 4);
    let found = all(&*index);
    assert_eq!(found.1.len(), 1_000);
    assert_eq!(all(&*self::engine(dir.path()).open(&key("v"), &spec).unwrap()), found);
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
        let json = json.replacen(&format!("\"version\": {VERSION}"), "\"version\": 999", 1);
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
                assert!(matches!(error, EngineError::Io { .. }));
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
    let query = Query { vector: &[77.0; 4_096], k: 1, num_candidates: 1, nprobe: None, filter: None };
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
