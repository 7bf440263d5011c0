//! Writing a snapshot.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use knn_types::{Element, EngineError, Epoch, FieldSpec, IndexKey, SeqNo};

use super::disk::{Disk, io_error};
use super::format::{EVEN_KEYS, Order, RAGGED_KEYS, Writer};
use super::manifest::{FileEntry, Manifest, TrainedEntry, VERSION};
use crate::docs::Docs;
use crate::generation::Generation;
use crate::keyset::KeySet;
use crate::lists::{List, Lists, Part};
use crate::mapped::{MappedWords, PageSums, file_bytes};
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

/// What need not be held any more, since a new file has it.
#[derive(Default)]
pub(crate) struct Mapped {
    /// Groups of chunks and their rows.
    pub(crate) groups: Vec<(usize, Arc<MappedWords>)>,
    /// Of the generation that was written; they begin with the value [`CENTROIDS_START`].
    pub(crate) centroids: Option<Arc<MappedWords>>,
}

/// The newest snapshot as far as the next one needs to know it.
#[derive(Clone)]
pub(crate) struct Saved {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
    /// Which slots its files hold; see [`Store::lineage`].
    pub(crate) lineage: u64,
    /// What the next snapshot may link.
    pub(crate) files: Vec<FileEntry>,
    pub(crate) lists: Option<SavedLists>,
}

/// Which lists a snapshot holds. A list that changed is another allocation: one that is referred to
/// from here is not reused for anything else.
#[derive(Clone)]
pub(crate) struct SavedLists {
    generation: u64,
    lists: Vec<Weak<List>>,
}

impl SavedLists {
    pub(crate) fn of(lists: &Lists) -> Self {
        Self { generation: lists.generation.id, lists: lists.lists.iter().map(Arc::downgrade).collect() }
    }

    fn same_generation(&self, lists: &Lists) -> bool {
        self.generation == lists.generation.id && self.lists.len() == lists.lists.len()
    }

    /// Whether the file that starts with the list `range.start` then had what these lists have now.
    /// A list keeps its allocation only as long as it keeps its centroid.
    fn same_lists(&self, lists: &Lists, range: Range<usize>) -> bool {
        let per_file = lists_per_file(self.lists.len());
        let then = range.start..(range.start + per_file).min(self.lists.len());
        let same_file = per_file == lists_per_file(lists.nlist()) && then == range;
        let mut pairs = self.lists.get(then).into_iter().flatten().zip(&lists.lists[range]);
        same_file && pairs.all(|(then, now)| then.as_ptr() == Arc::as_ptr(now))
    }
}

/// Writes `state` beside the `newest` snapshot and puts it in its place. On an error nothing
/// changed. Also returns what can be read from the new files now.
pub(crate) fn save(
    disk: &Disk,
    state: &State,
    newest: Option<&Saved>,
) -> Result<(Saved, Mapped), EngineError> {
    let number =
        disk.snapshots().first().copied().max(newest.map(|saved| saved.number)).map_or(0, |last| last + 1);
    let written = disk.begin(number).and_then(|directory| {
        let mut snapshot =
            Writing { disk, directory, state, newest, files: Vec::new(), written: Written::default() };
        snapshot.write()?;
        // What was read to be written may have turned out to be damaged.
        state.store.sound()?;
        disk.commit(number)?;
        Ok((snapshot.files, snapshot.written))
    });
    let (files, written) = match written {
        Ok(written) => written,
        Err(error) => {
            disk.remove_unfinished();
            return Err(error);
        }
    };
    disk.remove_older(number);
    let mapped = map(disk, number, state, written)?;
    let saved = Saved {
        number,
        bytes: files.iter().map(|file| file.bytes).sum(),
        lineage: state.store.lineage(),
        files,
        lists: state.lists.as_ref().map(SavedLists::of),
    };
    Ok((saved, mapped))
}

fn map(disk: &Disk, number: u64, state: &State, written: Written) -> Result<Mapped, EngineError> {
    let mut mapped = Mapped::default();
    for (group, crc32) in written.groups {
        let path = disk.snapshot(number).join(rows_name(group));
        let len = state.store.group_slots(group) * state.store.words();
        let file = MappedWords::open(&path, len, crc32, state.store.damage())
            .map_err(|source| io_error(&path, source))?;
        file.expect_random_reads();
        mapped.groups.push((group, Arc::new(file)));
    }
    if let Some(entry) = written.centroids {
        let path = disk.snapshot(number).join(&entry.name);
        mapped.centroids = Some(map_centroids(&path, &entry).map_err(|source| io_error(&path, source))?);
    }
    Ok(mapped)
}

/// Maps a file of centroids, comparing its checksum.
pub(super) fn map_centroids(path: &Path, entry: &FileEntry) -> io::Result<Arc<MappedWords>> {
    let values = entry.bytes as usize / size_of::<f32>();
    Ok(Arc::new(MappedWords::open_bare(path, values, entry.crc32)?))
}

pub(super) fn rows_name(group: usize) -> String {
    format!("rows-{group}.bin")
}

pub(super) fn docs_name(group: usize) -> String {
    format!("docs-{group}.bin")
}

pub(super) fn lists_name(group: usize) -> String {
    format!("lists-{group}.bin")
}

/// Lists that share a file: so many that a snapshot has not too many files.
pub(super) fn lists_per_file(nlist: usize) -> usize {
    nlist.div_ceil(128).max(16)
}

pub(super) const STATE_NAME: &str = "state.bin";
pub(super) const CENTROIDS_NAME: &str = "centroids.bin";
/// The number of values stands before them.
pub(crate) const CENTROIDS_START: usize = size_of::<u64>() / size_of::<f32>();
pub(super) const MANIFEST_NAME: &str = "manifest.json";

/// A snapshot on its way.
struct Writing<'a> {
    disk: &'a Disk,
    directory: PathBuf,
    state: &'a State,
    newest: Option<&'a Saved>,
    files: Vec<FileEntry>,
    written: Written,
}

/// What was written, not linked, and will be mapped.
#[derive(Default)]
struct Written {
    /// Groups of rows with the checksums of their files.
    groups: Vec<(usize, u32)>,
    centroids: Option<FileEntry>,
}

impl<'a> Writing<'a> {
    fn write(&mut self) -> Result<(), EngineError> {
        (0..self.state.store.groups()).try_for_each(|group| self.group(group))?;
        let state = self.state;
        self.file(STATE_NAME, |writer| write_state(writer, state))?;
        if let Some(lists) = &state.lists {
            self.lists(lists)?;
        }
        let manifest = manifest(state, self.files.clone());
        let path = self.directory.join(MANIFEST_NAME);
        write_file(self.disk, &path, |writer| writer.values(&manifest.to_bytes())).map(drop)
    }

    /// Rows and documents of a group; linked if it was full before.
    fn group(&mut self, group: usize) -> Result<(), EngineError> {
        let store = &self.state.store;
        let (rows, docs) = (rows_name(group), docs_name(group));
        let was_full = self.linkable().is_some_and(|saved| {
            let bytes = file_bytes(store.group_slots(group) * store.words());
            let earlier = saved.files.iter().find(|file| file.name == rows);
            store.group_is_full(group) && earlier.is_some_and(|file| file.bytes == bytes)
        });
        if !(was_full && self.link(&rows)) {
            let entry =
                self.file(&rows, |writer| write_rows(writer, store.group(group).map(|(rows, _)| rows)))?;
            self.written.groups.push((group, entry.crc32));
        }
        if !(was_full && self.link(&docs)) {
            self.file(&docs, |writer| store.group(group).try_for_each(|(_, docs)| write_docs(writer, docs)))?;
        }
        Ok(())
    }

    /// Centroids and lists; linked where nothing was added or taken away.
    fn lists(&mut self, lists: &Lists) -> Result<(), EngineError> {
        let before = self.linkable().and_then(|saved| saved.lists.as_ref());
        let same_centroids = before.is_some_and(|before| before.same_generation(lists));
        if !(same_centroids && self.link(CENTROIDS_NAME)) {
            let entry = self.file(CENTROIDS_NAME, |writer| {
                writer.run(lists.generation.coarse.centroids())?;
                writer.values(lists.generation.coarse.residuals())?;
                writer.run(&lists.generation.local.founding)
            })?;
            self.written.centroids = Some(entry);
        }
        let per_file = lists_per_file(lists.nlist());
        for (group, part) in lists.lists.chunks(per_file).enumerate() {
            let (name, first) = (lists_name(group), group * per_file);
            let same = before.is_some_and(|before| before.same_lists(lists, first..first + part.len()));
            if !(same && self.link(&name)) {
                self.file(&name, |writer| {
                    part.iter().try_for_each(|list| write_list(writer, &lists.generation, list))
                })?;
            }
        }
        Ok(())
    }

    /// The newest snapshot, if slots are still what they were then.
    fn linkable(&self) -> Option<&'a Saved> {
        self.newest.filter(|saved| saved.lineage == self.state.store.lineage())
    }

    /// Gives a file of the newest snapshot a second name. Whatever prevents it, the file can be written.
    fn link(&mut self, name: &str) -> bool {
        let Some(saved) = self.newest else { return false };
        let Some(entry) = saved.files.iter().find(|file| file.name == name) else { return false };
        let from = self.disk.snapshot(saved.number).join(name);
        let linked = self.disk.link(&from, &self.directory.join(name)).is_ok();
        if linked {
            self.files.push(entry.clone());
        }
        linked
    }

    fn file(
        &mut self,
        name: &str,
        content: impl FnOnce(&mut Writer) -> io::Result<()>,
    ) -> Result<FileEntry, EngineError> {
        let entry = write_file(self.disk, &self.directory.join(name), content)?;
        self.files.push(entry.clone());
        Ok(entry)
    }
}

fn write_file(
    disk: &Disk,
    path: &Path,
    content: impl FnOnce(&mut Writer) -> io::Result<()>,
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

/// Rows as [`MappedWords`] wants them.
fn write_rows<'a>(writer: &mut Writer, rows: impl Iterator<Item = &'a [u32]>) -> io::Result<()> {
    let mut sums = PageSums::default();
    for rows in rows {
        sums.update(bytemuck::cast_slice(rows));
        writer.values(rows)?;
    }
    let padding = vec![0u8; sums.missing()];
    sums.update(&padding);
    writer.values(&padding)?;
    writer.restart_checksum();
    writer.values(sums.sums())
}

fn write_docs(writer: &mut Writer, docs: &Docs) -> io::Result<()> {
    let sealed = docs.sealed();
    writer.number(sealed.count)?;
    match &sealed.keys {
        KeySet::Even { template, varying, bytes } => {
            writer.number(EVEN_KEYS)?;
            writer.run(template)?;
            writer.run(varying)?;
            writer.run(bytes)?;
        }
        KeySet::Ragged { prefix, ends, bytes } => {
            writer.number(RAGGED_KEYS)?;
            writer.run(prefix)?;
            writer.ints(ends)?;
            writer.run(bytes)?;
        }
    }
    writer.ints(&sealed.seq_nos)?;
    writer.ints(&sealed.terms)
}

fn write_state(writer: &mut Writer, state: &State) -> io::Result<()> {
    let dead: Vec<u64> = state.store.dead_bits().copied().collect();
    writer.run(&dead)?;
    writer.number(state.tombstones.len())?;
    for (key, order) in &state.tombstones {
        writer.run(key)?;
        writer.values(&[Order::from(*order)])?;
    }
    // Only where documents have several vectors; most fields end here.
    if state.store.is_grouped() { writer.run(&state.store.follower_bits()) } else { Ok(()) }
}

fn write_list(writer: &mut Writer, generation: &Generation, list: &List) -> io::Result<()> {
    // Fresh entries become frozen in the file.
    let joined;
    let part: &Part = if list.fresh.len == 0 {
        &list.frozen
    } else {
        let mut part = Part::default();
        list.copy_into(generation.coder.shape(), Some, &mut part);
        joined = part;
        &joined
    };
    writer.number(part.len)?;
    writer.values(&part.slots)?;
    writer.values(&part.lines)
}

fn manifest(state: &State, files: Vec<FileEntry>) -> Manifest {
    let trained = state.lists.as_ref().map(|lists| TrainedEntry {
        seed: lists.generation.rotation.seed(),
        spill: lists.generation.spill,
        vectors: lists.generation.trained.vectors,
        residual: lists.generation.trained.residual,
        added: lists.drift.added,
        added_residuals: lists.drift.residuals,
        seen_slots: lists.drift.since,
        changed_lists: lists.generation.local.changed,
        curve: lists.generation.curve.points.clone(),
    });
    Manifest {
        version: VERSION,
        index_uuid: Arc::clone(&state.key.index_uuid),
        shard: state.key.shard,
        history_uuid: Arc::clone(&state.key.history_uuid),
        field: Arc::clone(&state.key.field),
        element: (state.spec.element != Element::Float).then(|| state.spec.element.name().to_owned()),
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
