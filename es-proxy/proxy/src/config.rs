//! What the request path can be told. Plain values with their defaults; the binary reads them from
//! file, environment and flags.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use es_tls::{ServerTls, UpstreamTls};

use crate::advertise::Advertise;
use crate::door::tenant::Tenants;
use crate::ports::NodeFacts;

/// Settings of the request path.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// What nodes are shown with to clients that look for nodes themselves.
    pub advertise: Advertise,
    /// TLS with clients; `None`: plain HTTP.
    pub tls: Option<Arc<ServerTls>>,
    /// From connecting to the end of the handshake.
    pub tls_handshake_timeout: Duration,
    /// Elasticsearch nodes; the first that answers is used, the others when it does not.
    pub upstream: Vec<UpstreamAddress>,
    /// TLS with those whose address says so.
    pub upstream_tls: Option<Arc<UpstreamTls>>,
    /// Worker threads; each has its own connections to Elasticsearch.
    pub workers: usize,
    /// Client connections at once; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Largest request body; larger ones get 413 as from Elasticsearch (100 MiB there).
    pub max_body_bytes: u64,
    /// Largest head that is read at all, of requests and of Elasticsearch's responses.
    pub max_head_bytes: usize,
    /// Limits of a request's head, as Elasticsearch has them.
    pub head: HeadLimits,
    /// How long a client may let us wait.
    pub client_timeouts: ClientTimeouts,
    /// Memory for bodies that are read to be understood, of all requests together; beyond it searches pass.
    pub intercept_memory: u64,
    /// Largest body of a search or mapping that is read to be understood; larger ones pass.
    pub max_intercept_bytes: usize,
    /// Documents kept from earlier searches; 0 keeps none.
    pub document_cache_bytes: u64,
    /// Vectors of writes that may be held until Elasticsearch has acknowledged them, of all requests
    /// together; beyond it writes are left to the feed, and with 0 all are.
    pub write_memory: u64,
    /// Connecting to Elasticsearch.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of Elasticsearch's response.
    pub response_timeout: Duration,
    /// How long a response that acknowledges a refresh is held for our own publication.
    pub publish_timeout: Duration,
    /// How long requests in flight may take at shutdown.
    pub drain_timeout: Duration,
    /// Whether a `dense_vector` without `index_options` becomes `ivf`.
    pub unspecified_is_ivf: bool,
    /// Whether Elasticsearch decides who may see what.
    pub security: SecurityMode,
    /// How long Elasticsearch's word on a caller (who it is, what it may read) holds.
    pub identity_ttl: Duration,
    /// Callers of whom that is remembered.
    pub identity_cache: usize,
    /// Requests that Elasticsearch may have of us at once; `None`: as many as there are connections.
    pub max_in_flight: Option<usize>,
    /// Limits of knn searches that pass to an offload field.
    pub passed_knn: PassedKnnLimits,
    /// Whose requests are whose, and what each may do.
    pub tenants: Arc<Tenants>,
    /// While true every request is refused: it is not certain yet that Elasticsearch may be served.
    pub held_back: Arc<AtomicBool>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9201)),
            advertise: Advertise::default(),
            tls: None,
            tls_handshake_timeout: Duration::from_secs(10),
            upstream: vec![UpstreamAddress { host: "127.0.0.1".into(), port: 9200, tls: false }],
            upstream_tls: None,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_connections: 10_000,
            max_body_bytes: 100 << 20,
            max_head_bytes: 64 << 10,
            head: HeadLimits::default(),
            client_timeouts: ClientTimeouts::default(),
            intercept_memory: 256 << 20,
            max_intercept_bytes: 16 << 20,
            document_cache_bytes: 64 << 20,
            write_memory: 256 << 20,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(3600),
            publish_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            unspecified_is_ivf: true,
            security: SecurityMode::Auto,
            identity_ttl: Duration::from_secs(5),
            identity_cache: 100_000,
            max_in_flight: None,
            passed_knn: PassedKnnLimits::default(),
            tenants: Arc::default(),
            held_back: Arc::default(),
        }
    }
}

/// Limits of a request's head; longer ones get 400.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The request line (`http.max_initial_line_length`).
    pub max_line_bytes: usize,
    /// All headers together (`http.max_header_size`).
    pub max_header_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_line_bytes: 4 << 10, max_header_bytes: 16 << 10 }
    }
}

/// How long a client may let us wait before its connection is closed. Connections that are idle between two
/// requests stay, as they do in Elasticsearch.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between two parts of a body.
    pub body: Duration,
    /// Between two parts of a response that it takes.
    pub write: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(60),
            body: Duration::from_secs(300),
            write: Duration::from_secs(600),
        }
    }
}

impl ClientTimeouts {
    /// How often the clock moves by which these are measured.
    pub(crate) fn tick(&self) -> Duration {
        let shortest = self.head.min(self.body).min(self.write);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

/// Limits of knn searches that pass to an offload field, where each is an exact scan.
#[derive(Clone, Copy, Debug)]
pub struct PassedKnnLimits {
    /// At once.
    pub concurrency: usize,
    /// How long one may wait for its turn before it is refused.
    pub wait: Duration,
    /// Vectors that these scans may compare per second, all together.
    pub vectors_per_second: u32,
}

impl Default for PassedKnnLimits {
    fn default() -> Self {
        Self { concurrency: 4, wait: Duration::from_secs(1), vectors_per_second: 8_000_000 }
    }
}

/// Whether our answers may skip Elasticsearch's own checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityMode {
    /// Ask Elasticsearch: only where security is found absent may a search be answered without it.
    Auto,
    /// Declared off: nothing is checked.
    Off,
    /// Declared on: a search is answered without Elasticsearch only where it says that the caller may read
    /// all of the index; else every hit is fetched with the caller's own credentials.
    On,
}

impl SecurityMode {
    /// Whether Elasticsearch must confirm what the caller may see.
    pub(crate) fn is_on(self, node: &NodeFacts) -> bool {
        match self {
            Self::Auto => !node.security_absent,
            Self::Off => false,
            Self::On => true,
        }
    }
}

impl FromStr for SecurityMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            other => Err(format!("[{other}] is none of auto, off, on")),
        }
    }
}

impl fmt::Display for SecurityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::On => "on",
        })
    }
}

/// One Elasticsearch node's HTTP address, written `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// Name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl FromStr for UpstreamAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, after)) = text.rsplit_once('@') {
            return Err(format!(
                "[…@{after}] must not hold credentials; use upstream_auth_file or OUTRIGGER_UPSTREAM_AUTH"
            ));
        }
        let uri: http::Uri = text.parse().map_err(|error| format!("[{text}] is no URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("[{text}] must look like http://127.0.0.1:9200")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("[{text}] must not have a path: requests keep the path the client sent"));
        }
        let authority = uri.authority().ok_or_else(|| format!("[{text}] names no host"))?;
        let (host, port) = authority.as_str().split_at(authority.host().len());
        // A port that cannot be read is none for `http`, and some other program may listen on the default.
        let port = match port.strip_prefix(':') {
            None => 9200,
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 && !digits.starts_with('+') => port,
                _ => return Err(format!("[{text}] has no port between 1 and 65535 after its colon")),
            },
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(format!("[{text}] names no host"));
        }
        Ok(Self { host, port, tls })
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_printed() {
        for (text, printed) in [
            ("http://127.0.0.1:9200", "http://127.0.0.1:9200"),
            ("http://es-1", "http://es-1:9200"),
            ("http://[::1]:9205/", "http://[::1]:9205"),
            ("https://es-1/", "https://es-1:9200"),
        ] {
            assert_eq!(text.parse::<UpstreamAddress>().unwrap().to_string(), printed);
        }
        for bad in [
            "127.0.0.1:9200",
            "http://h:9200/es",
            "http://u:p@h:9200",
            "ftp://h",
            "http://h:99999",
            "http://h:0",
            "http://h:",
            "http://h:+92",
            "https://[::1]:65536",
            "http://:9200",
        ] {
            bad.parse::<UpstreamAddress>().unwrap_err();
        }
        let refused = "http://feed:hun ter2@h:9200".parse::<UpstreamAddress>().unwrap_err();
        assert!(refused.contains("credentials") && !refused.contains("ter2"), "{refused}");
    }
}
