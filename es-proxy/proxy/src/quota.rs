//! How much each tenant may store, and how much it does.
//!
//! | file | what |
//! |---|---|
//! | [`amount`] | the five resources, and the error of a quota that is exceeded |
//! | [`ledger`] | all accounts: whose an index is, what was measured |
//! | [`account`] | one tenant's: usage, and whether there is room |
//! | [`pending`] | what was let in since the last measurement |
//! | [`crossing`] | when usage comes above 80 % |
//! | [`request`] | what a request would add |
//! | [`enforce`] | refusing it, or counting it while it is served |
//! | [`bulk_request`], [`bulk`] | the same for each item of a bulk |
//! | [`refusal`] | what is refused, and to whom it is told |
//! | [`store`] | where tenants, requests for more and history are kept: a port |
//!
//! What there is of indices and shards says the catalog; the rest is measured by whoever calls
//! [`Ledger::measuring`] (the binary, every ten seconds). Several sidecars each count what they let in since their
//! last measurement, so all together may exceed a quota by what the others let in within that time.

pub(crate) mod account;
mod amount;
pub(crate) mod bulk;
pub(crate) mod bulk_request;
mod crossing;
pub(crate) mod enforce;
mod ledger;
mod metrics;
mod pending;
mod refusal;
pub(crate) mod request;
pub(crate) mod store;

use knn_types::FieldSpec;

pub use amount::{Amount, Exceeded, Resource};
pub use ledger::{IndexMeasured, Ledger, Measuring};
pub use store::{
    Expected, QuotaRequest, RequestState, StoreAnswer, StoreError, StoredTenant, StoredTenants, TenantStore,
    UsagePoint, Version,
};

/// Bytes of one vector of a field, as quotas count them: its elements.
pub fn vector_bytes(spec: &FieldSpec) -> u64 {
    match spec.element {
        knn_types::Element::Float => 4 * spec.dims as u64,
        knn_types::Element::Byte => spec.dims as u64,
        knn_types::Element::Bit => spec.dims.div_ceil(8) as u64,
    }
}
