//! Opening a snapshot. Whatever is wrong with the files, the answer is "damaged", with a reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ivf_kernels::BLOCK;
use knn_types::{Epoch, FieldSpec, IndexKey};
use serde::Serialize;

use super::disk::Disk;
use super::format::{Order, Reader};
use super::manifest::{FileEntry, Manifest, TrainedEntry};
use super::write::{MANIFEST_NAME, STATE_NAME, Saved, docs_name, rows_name};
use crate::coarse::Coarse;
use crate::coder::Coder;
use crate::effort::{Curve, Point};
use crate::generation::{Generation, Trained, next_id};
use crate::heads::Tombstones;
use crate::lists::{Drift, List, Lists, PADDING, Part};
use crate::mapped::MappedFloats;
use crate::rotation::Rotation;
use crate::store::{Docs, GROUP_CHUNKS, Orders, Store};

/// A state that was on disk.
pub(crate) struct Restored {
    pub(crate) epoch: Epoch,
    pub(crate) store: Store,
    pub(crate) lists: Option<Lists>,
    pub(crate) tombstones: Tombstones,
    pub(crate) saved: Saved,
}

/// The newest sound snapshot of this key and field, if there is one. Damaged ones are set aside.
pub(crate) fn restore(disk: &Disk, key: &IndexKey, spec: &FieldSpec) -> Option<Restored> {
    disk.remove_unfinished();
    for number in disk.snapshots() {
        match load(&disk.snapshot(number), number, key, spec) {
            Ok(restored) => return restored,
            Err(reason) => disk.set_aside(number, &reason),
        }
    }
    None
}

/// What the newest readable manifest of an index says.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `settings.index.uuid`, shard, `history_uuid` and field.
    pub key: String,
    /// Values per vector.
    pub dims: usize,
    /// `l2`, `cosine`, `dot` or `mip`.
    pub metric: String,
    /// `_seq_no` up to which nothing is missing.
    pub cursor: i64,
    /// Entries, dead ones included.
    pub slots: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Vectors when centroids were trained.
    pub trained_on: Option<usize>,
    /// Effort against recall, as calibration measured it.
    pub curve: Vec<Point>,
}

/// What is known of the index in a directory without reading its data.
pub(crate) fn summary(root: &Path) -> Option<Summary> {
    let manifest = Disk::at(root).snapshots().into_iter().find_map(|number| {
        let bytes = read(&Disk::at(root).snapshot(number).join(MANIFEST_NAME)).ok()?;
        Manifest::parse(&bytes).ok()
    })?;
    let trained_on = manifest.trained.as_ref().map(|trained| trained.vectors);
    Some(Summary {
        key: manifest.key().to_string(),
        dims: manifest.dims,
        metric: manifest.metric,
        cursor: manifest.cursor,
        slots: manifest.slots,
        disk_bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        trained_on,
        curve: manifest.trained.map(|trained| trained.curve).unwrap_or_default(),
    })
}

/// Reads all of every snapshot in a directory of an index; tells what is wrong with each.
pub(crate) fn verify(root: &Path) -> Vec<(PathBuf, Result<(), String>)> {
    let disk = Disk::at(root);
    let check = |number: u64| {
        let path = disk.snapshot(number);
        let result =
            read(&path.join(MANIFEST_NAME)).and_then(|bytes| Manifest::parse(&bytes)).and_then(|manifest| {
                let spec = manifest.spec().ok_or("a metric that this program does not know")?;
                load(&path, number, &manifest.key(), &spec).map(|_| ())
            });
        (path, result)
    };
    disk.snapshots().into_iter().map(check).collect()
}

/// `Ok(None)`: sound, but of another key or another kind of field.
fn load(directory: &Path, number: u64, key: &IndexKey, spec: &FieldSpec) -> Result<Option<Restored>, String> {
    let manifest = Manifest::parse(&read(&directory.join(MANIFEST_NAME))?)?;
    if manifest.key() != *key || !manifest.is_of(spec) {
        return Ok(None);
    }
    let mut groups = Vec::new();
    while let Some(entry) = manifest.file(&rows_name(groups.len())) {
        let path = directory.join(&entry.name);
        let rows = MappedFloats::open(&path).map_err(|error| format!("{}: {error}", entry.name))?;
        check(entry, rows.bytes())?;
        rows.expect_random_reads();
        let docs = checked(directory, &manifest, &docs_name(groups.len()))?;
        let docs = read_docs(&docs).ok_or("documents do not fit their file")?;
        groups.push((Arc::new(rows), docs));
    }
    let state = checked(directory, &manifest, STATE_NAME)?;
    let mut reader = Reader(&state);
    let parts = read_state(&mut reader, &manifest, groups).ok_or("the state does not fit its file")?;
    let (store, tombstones) = parts;
    let lists = match &manifest.trained {
        None => None,
        Some(trained) => {
            Some(read_lists(&mut reader, trained, spec, &store).ok_or("lists do not fit their file")?)
        }
    };
    if !reader.is_at_end() {
        return Err("more in the state than there should be".into());
    }
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    let saved = Saved { number, bytes, lineage: store.lineage(), files: manifest.files.clone() };
    Ok(Some(Restored { epoch: manifest.epoch(), store, lists, tombstones, saved }))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The bytes of a file whose length and checksum are right.
fn checked(directory: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>, String> {
    let entry = manifest.file(name).ok_or_else(|| format!("the manifest lacks {name}"))?;
    let bytes = read(&directory.join(name))?;
    check(entry, &bytes)?;
    Ok(bytes)
}

fn check(entry: &FileEntry, bytes: &[u8]) -> Result<(), String> {
    if bytes.len() as u64 != entry.bytes {
        return Err(format!("{} has {} bytes, not {}", entry.name, bytes.len(), entry.bytes));
    }
    if crc32fast::hash(bytes) != entry.crc32 {
        return Err(format!("checksum of {} does not match", entry.name));
    }
    Ok(())
}

fn read_docs(bytes: &[u8]) -> Option<Vec<Docs>> {
    let mut reader = Reader(bytes);
    let mut chunks = Vec::new();
    while !reader.is_at_end() {
        let (keys, ends) = (reader.run()?, reader.run()?);
        let orders = Orders { seq_nos: reader.run()?, terms: reader.run()? };
        chunks.push(Docs { keys, ends, orders });
    }
    (chunks.len() <= GROUP_CHUNKS).then_some(chunks)
}

fn read_state(
    reader: &mut Reader<'_>,
    manifest: &Manifest,
    groups: Vec<(Arc<MappedFloats>, Vec<Docs>)>,
) -> Option<(Store, Tombstones)> {
    let dead: Vec<u64> = reader.run()?;
    let store = Store::restore(manifest.dims, manifest.slots, groups, &dead)?;
    let mut tombstones = Tombstones::default();
    for _ in 0..reader.number()? {
        let key: Vec<u8> = reader.run()?;
        let order: Vec<Order> = reader.values(1)?;
        tombstones.insert(key.into(), (*order.first()?).into());
    }
    Some((store, tombstones))
}

fn read_lists(
    reader: &mut Reader<'_>,
    trained: &TrainedEntry,
    spec: &FieldSpec,
    store: &Store,
) -> Option<Lists> {
    let centroids: Vec<f32> = reader.run()?;
    if centroids.is_empty() || !centroids.len().is_multiple_of(spec.dims) {
        return None;
    }
    let residuals: Vec<f32> = reader.values(centroids.len() / spec.dims)?;
    let coder = Coder::for_field(spec.metric, spec.dims);
    let mut coarse = Coarse::new(spec.metric, spec.dims, centroids);
    coarse.set_residuals(&residuals);
    let generation = Generation {
        id: next_id(),
        metric: spec.metric,
        rotation: Rotation::new(spec.dims, trained.seed),
        coder,
        coarse,
        trained: Trained { vectors: trained.vectors, residual: trained.residual },
        curve: Curve { points: trained.curve.clone() },
    };
    let mut lists = Vec::with_capacity(generation.coarse.nlist());
    for _ in 0..generation.coarse.nlist() {
        let len = reader.number()?;
        let blocks = len.div_ceil(BLOCK);
        let slots: Vec<u32> = reader.values(blocks.checked_mul(BLOCK)?)?;
        let lines = reader.values(blocks.checked_mul(coder.shape().lines())?)?;
        let (real, padding) = slots.split_at_checked(len)?;
        if real.iter().any(|&slot| slot as usize >= store.slots())
            || padding.iter().any(|&slot| slot != PADDING)
        {
            return None;
        }
        lists.push(Arc::new(List { frozen: Arc::new(Part { lines, slots, len }), fresh: Part::default() }));
    }
    let drift = Drift { added: trained.added, residuals: trained.added_residuals };
    Some(Lists { generation: Arc::new(generation), lists, drift })
}
