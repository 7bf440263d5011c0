//! Writing a snapshot.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use knn_types::{EngineError, Epoch, FieldSpec, IndexKey, SeqNo};

use super::disk::{Disk, io_error};
use super::format::{Order, Writer};
use super::manifest::{FileEntry, Manifest, TrainedEntry, VERSION};
use crate::lists::{Lists, Part};
use crate::mapped::MappedFloats;
use crate::store::Store;

/// What is written: one published state.
pub(crate) struct State {
    pub(crate) key: IndexKey,
    pub(crate) spec: FieldSpec,
    pub(crate) epoch: Epoch,
    pub(crate) store: Store,
    pub(crate) lists: Option<Lists>,
    pub(crate) tombstones: Vec<(Box<[u8]>, SeqNo)>,
}

/// Groups of chunks whose rows a file has.
type MappedGroups = Vec<(usize, Arc<MappedFloats>)>;

/// The newest snapshot as far as the next one needs to know it.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    /// Which slots its files hold; see [`Store::lineage`].
    pub(crate) lineage: u64,
    pub(crate) files: Vec<FileEntry>,
}

/// Writes `state` beside the `newest` snapshot and puts it in its place. On an error nothing
/// changed. Also returns the files of rows that held chunks can be read from now.
pub(crate) fn save(
    disk: &Disk,
    state: &State,
    newest: Option<&Saved>,
) -> Result<(Saved, MappedGroups), EngineError> {
    let number =
        disk.snapshots().first().copied().max(newest.map(|saved| saved.number)).map_or(0, |last| last + 1);
    let written = disk.begin(number).and_then(|directory| {
        let files = write_files(disk, &directory, state, newest)?;
        disk.commit(number)?;
        Ok(files)
    });
    let files = match written {
        Ok(files) => files,
        Err(error) => {
            disk.remove_unfinished();
            return Err(error);
        }
    };
    disk.remove_older(number);
    let bytes = files.iter().map(|file| file.bytes).sum();
    let mut mapped = Vec::new();
    for group in
        (0..state.store.groups()).filter(|&g| state.store.group_is_full(g) && state.store.group_is_held(g))
    {
        let path = disk.snapshot(number).join(rows_name(group));
        let file = MappedFloats::open(&path).map_err(|source| io_error(&path, source))?;
        file.expect_random_reads();
        mapped.push((group, Arc::new(file)));
    }
    Ok((Saved { number, bytes, lineage: state.store.lineage(), files }, mapped))
}

pub(super) fn rows_name(group: usize) -> String {
    format!("rows-{group}.bin")
}

pub(super) fn docs_name(group: usize) -> String {
    format!("docs-{group}.bin")
}

pub(super) const STATE_NAME: &str = "state.bin";
pub(super) const MANIFEST_NAME: &str = "manifest.json";

fn write_files(
    disk: &Disk,
    directory: &Path,
    state: &State,
    newest: Option<&Saved>,
) -> Result<Vec<FileEntry>, EngineError> {
    let mut files = Vec::new();
    let linkable = newest.filter(|saved| saved.lineage == state.store.lineage());
    for group in 0..state.store.groups() {
        for name in [rows_name(group), docs_name(group)] {
            let path = directory.join(&name);
            let earlier = linkable.filter(|_| state.store.group_is_full(group)).and_then(|saved| {
                let entry = saved.files.iter().find(|file| file.name == name)?;
                let from = disk.snapshot(saved.number).join(&name);
                (entry.bytes == group_bytes(&state.store, group, &name)).then_some((entry, from))
            });
            if let Some((entry, from)) = earlier
                && disk.link(&from, &path).is_ok()
            {
                files.push(entry.clone());
                continue;
            }
            files.push(write_file(disk, &path, |writer| write_group(writer, &state.store, group, &name))?);
        }
    }
    files.push(write_file(disk, &directory.join(STATE_NAME), |writer| write_state(writer, state))?);
    let manifest = manifest(state, files.clone());
    write_file(disk, &directory.join(MANIFEST_NAME), |writer| writer.values(&manifest.to_bytes()))?;
    Ok(files)
}

fn write_file(
    disk: &Disk,
    path: &Path,
    content: impl FnOnce(&mut Writer) -> std::io::Result<()>,
) -> Result<FileEntry, EngineError> {
    let file = disk.create(path)?;
    let (bytes, crc32) = disk.do_step(path, |_| {
        let mut writer = Writer::new(file);
        content(&mut writer)?;
        writer.finish()
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(FileEntry { name, bytes, crc32 })
}

/// Bytes that a group's file would have: a linked file must have been written of the full group.
fn group_bytes(store: &Store, group: usize, name: &str) -> u64 {
    if name == rows_name(group) {
        store.group(group).map(|(rows, _)| size_of_val(rows) as u64).sum()
    } else {
        let docs = store.group(group).map(|(_, docs)| {
            32 + docs.keys.len()
                + docs.ends.len() * 4
                + (docs.orders.seq_nos.len() + docs.orders.terms.len()) * 8
        });
        docs.sum::<usize>() as u64
    }
}

fn write_group(writer: &mut Writer, store: &Store, group: usize, name: &str) -> std::io::Result<()> {
    for (rows, docs) in store.group(group) {
        if name == rows_name(group) {
            writer.values(rows)?;
        } else {
            writer.run(&docs.keys)?;
            writer.run(&docs.ends)?;
            writer.run(&docs.orders.seq_nos)?;
            writer.run(&docs.orders.terms)?;
        }
    }
    Ok(())
}

fn write_state(writer: &mut Writer, state: &State) -> std::io::Result<()> {
    let dead: Vec<u64> = state.store.chunks().flat_map(|(_, _, dead)| dead).copied().collect();
    writer.run(&dead)?;
    writer.number(state.tombstones.len())?;
    for (key, order) in &state.tombstones {
        writer.run(key)?;
        writer.values(&[Order::from(*order)])?;
    }
    if let Some(lists) = &state.lists {
        writer.run(lists.generation.coarse.centroids())?;
        writer.values(lists.generation.coarse.residuals())?;
        let (shape, groups) = (lists.generation.coder.shape(), lists.generation.coder.groups());
        for list in &lists.lists {
            // Fresh entries become frozen in the file.
            let joined;
            let part: &Part = if list.fresh.len == 0 {
                &list.frozen
            } else {
                let mut part = Part::default();
                list.frozen.copy_into(shape, 0..list.frozen.len, |_| true, groups, &mut part);
                list.fresh.copy_into(shape, 0..list.fresh.len, |_| true, groups, &mut part);
                joined = part;
                &joined
            };
            writer.number(part.len)?;
            writer.values(&part.slots)?;
            writer.values(&part.lines)?;
        }
    }
    Ok(())
}

fn manifest(state: &State, files: Vec<FileEntry>) -> Manifest {
    let trained = state.lists.as_ref().map(|lists| TrainedEntry {
        seed: lists.generation.rotation.seed(),
        vectors: lists.generation.trained.vectors,
        residual: lists.generation.trained.residual,
        added: lists.drift.added,
        added_residuals: lists.drift.residuals,
        curve: lists.generation.curve.points.clone(),
    });
    Manifest {
        version: VERSION,
        index_uuid: Arc::clone(&state.key.index_uuid),
        shard: state.key.shard,
        history_uuid: Arc::clone(&state.key.history_uuid),
        field: Arc::clone(&state.key.field),
        dims: state.spec.dims,
        metric: state.spec.metric.name().to_owned(),
        cursor: state.epoch.cursor,
        max_seq_no: state.epoch.max_seq_no,
        primary_term: state.epoch.primary_term,
        slots: state.store.slots(),
        files,
        trained,
    }
}

/// Removes everything that an index has on disk.
pub(crate) fn remove_all(root: &Path) {
    if let Err(error) = fs::remove_dir_all(root)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, directory = %root.display(), "files of an index could not be removed");
    }
}
