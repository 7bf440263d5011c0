//! Opening snapshots of version 1: rows without checksums of their own, keys as text, one file for
//! everything else. Such a snapshot is only read; the next one is written anew as a whole.

use std::path::Path;
use std::sync::Arc;

use knn_types::{FieldSpec, SeqNo};

use super::format::Reader;
use super::manifest::Manifest;
use super::read::{Parts, checked, read_generation, read_list, read_state};
use super::write::{STATE_NAME, docs_name, rows_name};
use crate::docs::Docs;
use crate::form::Form;
use crate::heads::Tombstones;
use crate::keys;
use crate::lists::{Drift, Lists};
use crate::mapped::MappedWords;

pub(super) fn load(directory: &Path, manifest: &Manifest, spec: &FieldSpec) -> Result<Parts, String> {
    let mut groups = Vec::new();
    while let Some(entry) = manifest.file(&rows_name(groups.len())) {
        let docs = checked(directory, manifest, &docs_name(groups.len()))?;
        let docs = read_docs(&docs).ok_or("documents do not fit their file")?;
        let len = docs.iter().map(Docs::len).sum::<usize>() * Form::of(spec).words();
        let rows = MappedWords::open_bare(&directory.join(&entry.name), len, entry.crc32)
            .map_err(|error| format!("{}: {error}", entry.name))?;
        rows.expect_random_reads();
        groups.push((Arc::new(rows), docs));
    }
    let state = checked(directory, manifest, STATE_NAME)?;
    let mut reader = Reader(&state);
    let (store, remembered) = read_state(&mut reader, Form::of(spec), manifest.slots, groups, Arc::default())
        .ok_or("the state does not fit its file")?;
    let mut tombstones = Tombstones::default();
    for (key, order) in remembered.iter() {
        tombstones.insert(reencoded(key).ok_or("a deletion has no key")?.into(), order);
    }
    let lists = match &manifest.trained {
        None => None,
        Some(trained) => {
            let mut generation =
                read_generation(&mut reader, trained, spec).ok_or("centroids do not fit their file")?;
            let lists: Option<Vec<_>> = (0..generation.coarse.nlist())
                .map(|_| read_list(&mut reader, &generation, store.slots()))
                .collect();
            let lists = lists.ok_or("lists do not fit their file")?;
            generation.remember_sizes(&lists);
            let drift = Drift { added: trained.added, residuals: trained.added_residuals, since: 0 };
            Some(Lists { generation: Arc::new(generation), lists, drift })
        }
    };
    if !reader.is_at_end() {
        return Err("more in the state than there should be".into());
    }
    Ok((store, tombstones, lists))
}

fn read_docs(bytes: &[u8]) -> Option<Vec<Docs>> {
    let mut reader = Reader(bytes);
    let mut chunks = Vec::new();
    while !reader.is_at_end() {
        let (texts, ends): (Vec<u8>, Vec<u32>) = (reader.run()?, reader.run()?);
        let (seq_nos, terms): (Vec<u64>, Vec<u64>) = (reader.run()?, reader.run()?);
        let one_term = terms.len() == 1;
        if seq_nos.len() != ends.len() || !(one_term || terms.len() == ends.len()) {
            return None;
        }
        let mut docs = Docs::default();
        let mut start = 0;
        for (at, &end) in ends.iter().enumerate() {
            let key = reencoded(texts.get(start..end as usize)?)?;
            let primary_term = if one_term { terms[0] } else { terms[at] };
            docs.push(&key, SeqNo { primary_term, seq_no: seq_nos[at] }, ends.len());
            start = end as usize;
        }
        chunks.push(docs);
    }
    Some(chunks)
}

/// A key as it is encoded now. Version 1 kept all of them as text, which is still understood.
fn reencoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    keys::encode(&keys::decode(text)?, &mut key);
    Some(key)
}
