//! Why a request of a bound tenant is refused.

use std::fmt;

/// Longest piece of a request that is repeated in a reason.
const MAX_QUOTED: usize = 200;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The path could be read in more than one way.
    Path,
    /// No endpoint for bound tenants, and why where the table says so.
    Endpoint(Option<&'static str>),
    /// A parameter that may name something, or that nobody knows.
    Parameter(String),
    /// An expression that can mean an index outside.
    Target(String),
    /// An alias inside that points outside; where to is not told.
    Alias(String),
    /// Names nothing, which means everything.
    Everything,
    /// A setting that reaches beyond the index.
    Setting(String),
    /// A part of a body that can hold or fetch what cannot be judged.
    Part(&'static str),
    /// A scroll, point in time or async search that was not handed out to the tenant.
    Context,
    /// The body cannot be judged.
    Body(&'static str),
}

impl Refusal {
    /// The word for metrics and logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Path => "isolation_path",
            Self::Endpoint(_) => "isolation_endpoint",
            Self::Parameter(_) => "isolation_parameter",
            Self::Target(_) | Self::Alias(_) | Self::Everything => "isolation_target",
            Self::Setting(_) | Self::Part(_) => "isolation_part",
            Self::Context => "isolation_context",
            Self::Body(_) => "isolation_body",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the path cannot be read in one way only"),
            Self::Endpoint(None) => f.write_str("the endpoint is not among those that bound tenants may use"),
            Self::Endpoint(Some(why)) => {
                write!(f, "the endpoint is not among those that bound tenants may use: {why}")
            }
            Self::Parameter(name) => write!(f, "parameter [{}] is not allowed", Quoted(name)),
            Self::Target(name) => write!(f, "[{}] can mean an index outside of it", Quoted(name)),
            Self::Alias(alias) => write!(f, "alias [{}] points at an index outside of it", Quoted(alias)),
            Self::Everything => f.write_str("the request names no index, which means all of them"),
            Self::Setting(name) => {
                write!(f, "setting [{}] reaches beyond the tenant's indices", Quoted(name))
            }
            Self::Part(what) => write!(f, "{what} may reach beyond the tenant's indices"),
            Self::Context => {
                f.write_str("the id of a scroll, point in time or async search was not handed out to it here")
            }
            Self::Body(why) => write!(f, "the body {why}, so that nobody can tell which indices it names"),
        }
    }
}

/// A piece of a request, cut where it is long.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_QUOTED) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
