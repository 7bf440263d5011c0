//! What a tenant that is bound to index patterns may ask Elasticsearch: an allow-list of endpoints, and of
//! each the places where it names indices. Pure: a head and a body go in, a verdict comes out.
//!
//! 1. [`endpoints`] is the table: method and path of each endpoint of Elasticsearch, and what is done with it.
//!    What stands nowhere in it is refused.
//! 2. [`parameters`] are those of URLs; only those known to name nothing are let through.
//! 3. [`names`] decides whether an expression can mean an index outside of the patterns, whatever exists.
//! 4. [`bodies`] finds the names inside queries, [`lines`] in `_bulk` and `_msearch`, [`definitions`] where
//!    indices, aliases and templates are made, [`contexts`] in requests that go on with an earlier one.
//!
//! The direction of every doubt is the same: what cannot be read to its end, or could be read in two ways, is
//! refused. Elasticsearch's own answer to a wrong request is then not seen, which costs a bound tenant less
//! than a way out would cost its neighbours.

mod bodies;
mod contexts;
mod definitions;
mod endpoints;
mod lines;
mod names;
mod parameters;
mod refusal;

use crate::catalog::{Catalog, IndexPatterns};
use crate::scan::Malformed;
use crate::{Params, segments};

pub use contexts::handed_out_in;
pub use endpoints::Body;
pub use refusal::Refusal;

/// Whether an id of a scroll, a point in time or an async search was handed out to the tenant.
pub type HandedOut<'a> = &'a dyn Fn(&str) -> bool;

/// What a tenant may reach.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// The tenant's own name.
    pub tenant: &'a str,
    /// The indices.
    pub patterns: &'a IndexPatterns,
    /// What names mean now: an alias inside the patterns may point outside.
    pub catalog: &'a Catalog,
    /// Which earlier requests were the tenant's own.
    pub handed_out: HandedOut<'a>,
}

/// What is still to be done with a request whose head may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What its body is, which [`Bounds::body`] must judge unless it is [`Body::Unread`].
    pub body: Body,
    /// The names in its path, as in a URL; `None` where the path has none.
    pub names: Option<String>,
    /// The member of the response whose value lets a later request go on with this one.
    pub hands_out: Option<&'static str>,
}

impl Bounds<'_> {
    /// Judges what stands in the head of a request.
    pub fn head(&self, method: &str, path: &str, query: Option<&str>) -> Result<Admitted, Refusal> {
        let decoded = segments(path).ok_or(Refusal::Path)?;
        if decoded.iter().any(|segment| matches!(&**segment, "." | "..")) {
            return Err(Refusal::Path);
        }
        if method == "OPTIONS" {
            // Elasticsearch tells the methods of the path and does nothing.
            return Ok(Admitted { body: Body::Unread, names: None, hands_out: None });
        }
        let inner = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
        // Elasticsearch compares the words of its routes with the path as it came, not decoded.
        let raw: Vec<&str> = if inner.is_empty() { Vec::new() } else { inner.split('/').collect() };
        let found = endpoints::find(method, &raw).ok_or(Refusal::Endpoint(None))?;
        let (body, hands_out) = match found.rule {
            endpoints::Rule::Refused(why) => return Err(Refusal::Endpoint(Some(why))),
            endpoints::Rule::Allowed(body, hands_out) => (body, hands_out),
        };
        let params = Params::of(query).ok_or(Refusal::Path)?;
        parameters::check(&params)?;
        let mut names = None;
        for (place, value) in endpoints::places(found.path).zip(&decoded) {
            match place {
                endpoints::Place::Names => {
                    self.names(value)?;
                    names.get_or_insert_with(|| value.clone().into_owned());
                }
                endpoints::Place::Context => contexts::check(self, value)?,
                endpoints::Place::Tenant if value != self.tenant => {
                    return Err(Refusal::Endpoint(Some("other tenants")));
                }
                endpoints::Place::Tenant | endpoints::Place::Free => {}
            }
        }
        let scrolls = params.get("scroll").is_some();
        let hands_out =
            hands_out.filter(|_| scrolls || body != Body::Query || hands_out != Some("_scroll_id"));
        if body == Body::Rollover {
            definitions::rollover(self, &decoded)?;
        }
        Ok(Admitted { body, names, hands_out })
    }

    /// Judges a body, inflated; `names` are those of the path.
    pub fn body(&self, body: Body, names: Option<&str>, bytes: &[u8]) -> Result<(), Refusal> {
        if body == Body::Unread {
            return Ok(());
        }
        if bytes.is_empty() {
            // Without a body Elasticsearch means everything where the path names nothing.
            return if body == Body::PointInTime { Err(Refusal::Everything) } else { Ok(()) };
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Body("is not UTF-8"))?;
        match body {
            Body::Unread => Ok(()),
            Body::Query => bodies::query(self, text).map(drop),
            Body::PointInTime => {
                if bodies::query(self, text)?.has_context {
                    Ok(())
                } else {
                    Err(Refusal::Everything)
                }
            }
            Body::Bulk => lines::bulk(self, text),
            Body::Msearch => lines::msearch(self, names, text),
            Body::Context => contexts::body(self, text),
            Body::Reindex => definitions::reindex(self, text),
            Body::Aliases => definitions::aliases(self, text),
            Body::Alias => definitions::alias(self, text),
            Body::Mapping => definitions::mapping(self, text),
            Body::Settings => definitions::settings(text),
            Body::Analysis => definitions::analysis(text),
            Body::Index | Body::Rollover => definitions::index(self, text),
            Body::Template => definitions::template(self, text),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Body("is not JSON that could be read to its end")
    }
}

#[cfg(test)]
mod tests;
