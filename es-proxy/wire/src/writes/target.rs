//! What the name of an index in a write stands for, and so which fields to look for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::catalog::{Catalog, IndexInfo, WriteTarget};
use crate::writes::Left;
use crate::writes::document::Fields;

/// Names that one request may use; further ones are left to the feed.
const MAX_NAMES: usize = 256;

/// What is done with writes to a name.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// No index of ours can be meant.
    NotOurs,
    Left(Left),
    Look(Arc<Fields>),
}

/// What names mean, as the catalog has it before the request is sent on.
pub(super) struct Targets {
    catalog: Arc<Catalog>,
    /// Indices that are switched off.
    switched_off: Vec<String>,
    known: HashMap<Box<str>, Target>,
}

impl Targets {
    pub(super) fn new(catalog: Arc<Catalog>, switched_off: Vec<String>) -> Self {
        Self { catalog, switched_off, known: HashMap::new() }
    }

    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    pub(super) fn of(&mut self, name: &str) -> Target {
        if let Some(target) = self.known.get(name) {
            return target.clone();
        }
        if self.known.len() == MAX_NAMES {
            return Target::Left(Left::Target);
        }
        let target = self.look_up(name);
        self.known.insert(name.into(), target.clone());
        target
    }

    fn look_up(&self, name: &str) -> Target {
        let indices = match self.catalog.write_target(name) {
            WriteTarget::Unclear => return Target::Left(Left::Target),
            WriteTarget::Indices(indices) => indices,
        };
        let ours = || indices.iter().filter(|index| !index.fields.is_empty());
        if ours().next().is_none() {
            return Target::NotOurs;
        }
        if let Some(reason) = ours().find_map(|index| self.refusal(index)) {
            return Target::Left(reason);
        }
        let mut fields = Fields::default();
        for index in ours() {
            // Those below `nested` are left to the feed.
            for (path, field) in index.fields.iter().filter(|(_, field)| field.nested.is_none()) {
                fields.add(path, field.spec.values());
            }
        }
        Target::Look(Arc::new(fields))
    }

    /// Why writes to the index are not followed here.
    fn refusal(&self, index: &IndexInfo) -> Option<Left> {
        if self.switched_off.iter().any(|name| **name == *index.name) {
            Some(Left::SwitchedOff)
        } else if index.writes.has_pipeline {
            Some(Left::Pipeline)
        } else {
            (!index.writes.are_plain()).then_some(Left::Index)
        }
    }
}
