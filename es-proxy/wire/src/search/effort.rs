//! How many documents a knn stands for and how hard it looks for them: Elasticsearch's defaults of `k` and
//! `num_candidates`, which depend on where the knn stands and have changed with the versions.

use super::NotOurs;
use super::accept::LIMIT;
use crate::Capabilities;

const DEFAULT_SIZE: usize = 10;

/// Where a knn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The `knn` section of a search body.
    Section,
    /// A knn query.
    Query,
    /// A knn retriever.
    Retriever,
}

/// Which documents a knn stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The `k` nearest of all shards together: the top-level section and the retriever.
    #[default]
    Global,
    /// The `k` nearest of each shard: the knn query.
    EachShard,
}

/// What a request says of the effort.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) k: Option<usize>,
    pub(super) num_candidates: Option<usize>,
    /// `size` of the body.
    pub(super) body_size: Option<usize>,
    /// `size` of the URL.
    pub(super) url_size: Option<usize>,
}

impl Form {
    pub(super) fn reach(self) -> Reach {
        if self == Self::Query { Reach::EachShard } else { Reach::Global }
    }

    /// `k` and `num_candidates` as Elasticsearch takes them.
    pub(super) fn effort(self, asked: Asked, caps: &Capabilities) -> Result<(usize, usize), NotOurs> {
        let (k, num_candidates) = match self {
            Self::Section => of_section(asked, caps)?,
            Self::Retriever => (asked.k.ok_or(NotOurs("k"))?, asked.num_candidates.ok_or(NotOurs("k"))?),
            Self::Query => of_query(asked, caps)?,
        };
        if k < 1 || num_candidates < k || num_candidates > LIMIT {
            return Err(NotOurs("k"));
        }
        Ok((k, num_candidates))
    }
}

/// `k` falls back to the size of the *body*: the URL's only pages.
fn of_section(asked: Asked, caps: &Capabilities) -> Result<(usize, usize), NotOurs> {
    if caps.k_required && (asked.k.is_none() || asked.num_candidates.is_none()) {
        return Err(NotOurs("k"));
    }
    let k = asked.k.or(asked.body_size).unwrap_or(DEFAULT_SIZE);
    Ok((k, asked.num_candidates.unwrap_or(half_as_many_more(k))))
}

/// The defaults of the knn query have changed three times.
fn of_query(asked: Asked, caps: &Capabilities) -> Result<(usize, usize), NotOurs> {
    let Asked { k, num_candidates, .. } = asked;
    let size = asked.url_size.or(asked.body_size).unwrap_or(DEFAULT_SIZE);
    match (caps.version.major, caps.version.minor) {
        (8, ..=11) => Err(NotOurs("version")),
        // `k` is no key yet: all candidates of a shard are returned.
        (8, 12..=14) if k.is_some() => Err(NotOurs("k")),
        (8, 12) => num_candidates.map(|all| (all, all)).ok_or(NotOurs("k")),
        (8, 13..=17) => {
            let all = num_candidates.unwrap_or(half_as_many_more(k.unwrap_or(size)));
            Ok((k.unwrap_or(all), all))
        }
        _ => {
            let k = k.unwrap_or(size.min(num_candidates.unwrap_or(LIMIT)));
            Ok((k, num_candidates.unwrap_or(half_as_many_more(k))))
        }
    }
}

/// round(1.5 k), halves up, at most [`LIMIT`].
fn half_as_many_more(k: usize) -> usize {
    LIMIT.min((3 * k).div_ceil(2))
}
