//! Elasticsearch's language as plain types and functions: what a request says, what an answer looks
//! like byte for byte, how our index type hides inside a mapping. No I/O, no async, no engine.
//!
//! Everything here prefers "not ours" over a guess: a request that is not understood wholly is
//! passed on untouched, so that Elasticsearch gives its own answer or its own error.

#![forbid(unsafe_code)]

mod addresses;
mod catalog;
mod error;
mod filter_path;
mod hex;
mod hits;
mod isolation;
mod java;
mod json;
mod mapping;
mod number;
mod params;
mod path;
mod pretty;
mod profile;
mod routing;
mod scan;
mod score;
mod search;
mod security;
mod version;
mod wildcard;
mod writes;
mod written;

pub use addresses::{AnswerFormat, ListedNode, NewAddress, NodeListing, UnknownListing, replace_addresses};
pub use catalog::{
    CATALOG_PATHS, Catalog, CatalogError, FieldKind, FilterFields, ForeignField, IndexInfo, IndexPatterns,
    MAX_STATE_DEPTH, Origin, Resolved, Target, TargetOptions, UNREADABLE_FILTER, Unfollowed, VectorField,
    WriteRules, data_stream_of, readable,
};
pub use error::{error_body, error_body_caused_by, rejected_body};
pub use filter_path::FilterPath;
pub use hex::bytes_of_hex;
pub use hits::{FetchMismatch, FetchedHits, Outcome, ScoredHit, render, render_fetched};
pub use isolation::{Admitted, Body, Bounds, HandedOut, Refusal, handed_out_in};
pub use java::{float, push_float};
pub use json::{Object, Splice, push_json_string};
pub use mapping::{
    ExistingField, KeyChange, META_KEY, MappingContext, MappingError, change_key, existing_fields, show_ivf,
    translate_create, translate_template, translate_update,
};
pub use params::Params;
pub use path::{Segments, segments};
pub use pretty::pretty;
pub use profile::{ShardProfile, with_profiles};
pub use routing::Routing;
pub use score::{BadVector, Scoring, Similarity};
pub use search::{
    DocFilter, Edits, FoundKnn, KnnSearch, KnnSite, MsearchHeader, MsearchItem, MsearchUrl, NotOurs, Reach,
    Seen, TrackTotal, as_msearch_response, find_knn, msearch_responses, parse_knn_search, parse_search,
    push_msearch_lines, read_filter, read_filters, read_msearch, with_ids,
};
pub use security::{ApiKey, Principal, ReadRights};
pub use version::{AllowedVersions, Capabilities, EsVersion, Mode};
pub use wildcard::matches_wildcard;
pub use writes::{
    AckReader, Addressed, BulkGate, BulkItem, GateError, ItemRefusal, ItemSplicer, Left, Limits, Operation,
    RefusedItem, Settled, VectorCount, VectorPaths, WriteScanner,
};
pub use written::{Acknowledged, Wrote};
