//! Opening a snapshot. Whatever is wrong with the files, the answer is "damaged", with a reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ivf_kernels::BLOCK;
use knn_types::{Element, Epoch, FieldSpec, IndexKey};
use serde::Serialize;

use super::disk::Disk;
use super::format::{EVEN_KEYS, Order, RAGGED_KEYS, Reader};
use super::manifest::{FileEntry, Manifest, TrainedEntry, VERSION};
use super::v1;
use super::write::{
    CENTROIDS_NAME, CENTROIDS_START, MANIFEST_NAME, STATE_NAME, Saved, SavedLists, docs_name, lists_name,
    lists_per_file, map_centroids, rows_name,
};
use crate::coarse::Coarse;
use crate::coder::Coder;
use crate::docs::{Docs, SealedDocs};
use crate::effort::{Curve, Point};
use crate::form::Form;
use crate::generation::{Generation, Local, Trained, next_id};
use crate::heads::Tombstones;
use crate::keyset::KeySet;
use crate::lists::{Drift, List, Lists, PADDING, Part};
use crate::mapped::{Damage, MappedWords, file_bytes};
use crate::rotation::Rotation;
use crate::store::{GROUP_CHUNKS, Store};

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
    /// `float`, `byte` or `bit`.
    pub element: String,
    /// Values per vector; of bits, bits.
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
    /// Whether every vector stands in two lists.
    pub spill: bool,
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
        element: manifest.element.unwrap_or_else(|| Element::Float.name().to_owned()),
        dims: manifest.dims,
        metric: manifest.metric,
        cursor: manifest.cursor,
        slots: manifest.slots,
        disk_bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        trained_on,
        spill: manifest.trained.as_ref().is_some_and(|trained| trained.spill),
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
                if let Some(restored) = load(&path, number, &manifest.key(), &spec)? {
                    restored.store.files().iter().for_each(|file| file.check_all());
                    restored.store.sound().map_err(|error| error.to_string())?;
                }
                Ok(())
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
    let (store, tombstones, lists) = match manifest.version {
        1 => v1::load(directory, &manifest, spec)?,
        _ => load_parts(directory, &manifest, spec)?,
    };
    let saved = Saved {
        number,
        bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        lineage: store.lineage(),
        // Files of an older version are not linked.
        files: if manifest.version == VERSION { manifest.files.clone() } else { Vec::new() },
        lists: lists.as_ref().map(SavedLists::of),
    };
    Ok(Some(Restored { epoch: manifest.epoch(), store, lists, tombstones, saved }))
}

/// What a snapshot consists of, its manifest apart.
pub(super) type Parts = (Store, Tombstones, Option<Lists>);

fn load_parts(directory: &Path, manifest: &Manifest, spec: &FieldSpec) -> Result<Parts, String> {
    let damage = Arc::default();
    let mut groups = Vec::new();
    while let Some(entry) = manifest.file(&rows_name(groups.len())) {
        let docs = checked(directory, manifest, &docs_name(groups.len()))?;
        let docs = read_docs(&docs).ok_or("documents do not fit their file")?;
        let len = docs.iter().map(Docs::len).sum::<usize>() * Form::of(spec).words();
        if file_bytes(len) != entry.bytes {
            return Err(format!("{} does not fit its documents", entry.name));
        }
        let rows = MappedWords::open(&directory.join(&entry.name), len, entry.crc32, &damage)
            .map_err(|error| format!("{}: {error}", entry.name))?;
        rows.expect_random_reads();
        groups.push((Arc::new(rows), docs));
    }
    let state = checked(directory, manifest, STATE_NAME)?;
    let mut reader = Reader(&state);
    let read = read_state(&mut reader, Form::of(spec), manifest.slots, groups, damage)
        .and_then(|(store, tombstones)| Some((with_followers(&mut reader, store)?, tombstones)));
    let (store, tombstones) = read.filter(|_| reader.is_at_end()).ok_or("the state does not fit its file")?;
    let lists = match &manifest.trained {
        None => None,
        Some(trained) => {
            let centroids = checked(directory, manifest, CENTROIDS_NAME)?;
            let mut reader = Reader(&centroids);
            let generation = read_generation(&mut reader, trained, spec);
            let mut generation = generation.ok_or("centroids do not fit their file")?;
            // Earlier files end here.
            let founding = if reader.is_at_end() { Some(Vec::new()) } else { reader.run() };
            generation.local.founding = founding
                .filter(|sizes| {
                    reader.is_at_end() && (sizes.is_empty() || sizes.len() == generation.coarse.nlist())
                })
                .ok_or("sizes of lists do not fit their file")?;
            let mut generation = with_mapped_centroids(directory, manifest, &generation)?;
            let lists = read_all_lists(directory, manifest, &generation, &store)?;
            generation.remember_sizes(&lists);
            let drift = Drift {
                added: trained.added,
                residuals: trained.added_residuals,
                since: trained.seen_slots.min(store.slots() as u32),
            };
            Some(Lists { generation: Arc::new(generation), lists, drift })
        }
    };
    Ok((store, tombstones, lists))
}

fn with_mapped_centroids(
    directory: &Path,
    manifest: &Manifest,
    generation: &Generation,
) -> Result<Generation, String> {
    let entry = manifest.file(CENTROIDS_NAME).ok_or("the manifest lacks the centroids")?;
    let mapped = map_centroids(&directory.join(CENTROIDS_NAME), entry);
    let file = mapped.map_err(|error| format!("{CENTROIDS_NAME}: {error}"))?;
    Ok(generation.reading(file, CENTROIDS_START))
}

fn read_all_lists(
    directory: &Path,
    manifest: &Manifest,
    generation: &Generation,
    store: &Store,
) -> Result<Vec<Arc<List>>, String> {
    let nlist = generation.coarse.nlist();
    let mut lists = Vec::with_capacity(nlist);
    while lists.len() < nlist {
        let name = lists_name(lists.len() / lists_per_file(nlist));
        let bytes = checked(directory, manifest, &name)?;
        let mut reader = Reader(&bytes);
        for _ in lists.len()..nlist.min(lists.len() + lists_per_file(nlist)) {
            let list = read_list(&mut reader, generation, store.slots());
            lists.push(list.ok_or_else(|| format!("lists do not fit {name}"))?);
        }
        if !reader.is_at_end() {
            return Err(format!("more in {name} than there should be"));
        }
    }
    Ok(lists)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The bytes of a file whose length and checksum are right.
pub(super) fn checked(directory: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>, String> {
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
        let count = reader.number()?;
        let keys = match reader.number()? {
            EVEN_KEYS => KeySet::Even {
                template: reader.run()?.into(),
                varying: reader.run()?.into(),
                bytes: reader.run()?.into(),
            },
            RAGGED_KEYS => KeySet::Ragged {
                prefix: reader.run()?.into(),
                ends: reader.ints()?,
                bytes: reader.run()?.into(),
            },
            _ => return None,
        };
        let docs = Docs::Sealed(SealedDocs { count, keys, seq_nos: reader.ints()?, terms: reader.ints()? });
        chunks.push(Some(docs).filter(Docs::is_sound)?);
    }
    (chunks.len() <= GROUP_CHUNKS).then_some(chunks)
}

pub(super) fn read_state(
    reader: &mut Reader<'_>,
    form: Form,
    slots: usize,
    groups: Vec<(Arc<MappedWords>, Vec<Docs>)>,
    damage: Arc<Damage>,
) -> Option<(Store, Tombstones)> {
    let dead: Vec<u64> = reader.run()?;
    let store = Store::restore(form, slots, groups, &dead, damage)?;
    let mut tombstones = Tombstones::default();
    for _ in 0..reader.number()? {
        let key: Vec<u8> = reader.run()?;
        let order: Vec<Order> = reader.values(1)?;
        tombstones.insert(key.into(), (*order.first()?).into());
    }
    Some((store, tombstones))
}

/// The store, told which slots belong to the document before, if the file says so.
fn with_followers(reader: &mut Reader<'_>, mut store: Store) -> Option<Store> {
    if !reader.is_at_end() {
        let followers: Vec<u64> = reader.run()?;
        store.restore_followers(&followers)?;
    }
    Some(store)
}

pub(super) fn read_generation(
    reader: &mut Reader<'_>,
    trained: &TrainedEntry,
    spec: &FieldSpec,
) -> Option<Generation> {
    let centroids: Vec<f32> = reader.run()?;
    if centroids.is_empty() || !centroids.len().is_multiple_of(spec.dims) {
        return None;
    }
    let residuals: Vec<f32> = reader.values(centroids.len() / spec.dims)?;
    let mut coarse = Coarse::new(spec.metric, spec.dims, centroids);
    coarse.set_residuals(&residuals);
    if trained.spill && coarse.nlist() < 2 {
        return None;
    }
    Some(Generation {
        id: next_id(),
        metric: spec.metric,
        rotation: Arc::new(Rotation::new(spec.dims, trained.seed)),
        coder: Coder::for_field(spec.metric, spec.dims),
        coarse: Arc::new(coarse),
        spill: trained.spill,
        trained: Trained { vectors: trained.vectors, residual: trained.residual },
        curve: Curve { points: trained.curve.clone() },
        local: Local { founding: Vec::new(), changed: trained.changed_lists },
    })
}

pub(super) fn read_list(reader: &mut Reader<'_>, generation: &Generation, slots: usize) -> Option<Arc<List>> {
    let len = reader.number()?;
    let blocks = len.div_ceil(BLOCK);
    let names: Vec<u32> = reader.values(blocks.checked_mul(BLOCK)?)?;
    let lines = reader.values(blocks.checked_mul(generation.coder.shape().lines())?)?;
    let (real, padding) = names.split_at_checked(len)?;
    let names_fit = real.iter().all(|&slot| (slot as usize) < slots);
    if !names_fit || padding.iter().any(|&slot| slot != PADDING) {
        return None;
    }
    let frozen = Arc::new(Part { lines, slots: names, len });
    Some(Arc::new(List { frozen, fresh: Part::default() }))
}
