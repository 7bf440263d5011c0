//! All settings, and the layers that they come from: flags stand before the environment, the environment before
//! the file. Each is a flag, a variable and a key alike; its comment here is what `--help` says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;
use es_proxy::units::{Bytes, Time};
use es_proxy::{
    AddressLimits, AdvertisedNodes, AuditEvents, AuditTarget, HostPort, Mode, SecurityMode, TenantSpec,
};
use es_tls::{ClientAuth, Fingerprint, Verify, Versions};
use es_wire::{AllowedVersions, IndexPatterns};
use serde::Deserialize;

use super::secret::Secret;
use super::values::{HeaderName, LogFormat, Networks, Unspecified, Word};

macro_rules! layer {
    ($( $(#[$meta:meta])* $name:ident : $type:ty, $env:literal, $value:literal; )*) => {
        /// Settings of one source; what is absent is left to the next source.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct Layer {
            /// Read further settings from this TOML file.
            #[arg(long, env = "OUTRIGGER_CONFIG", value_name = "FILE")]
            #[serde(skip)]
            pub(super) config: Option<PathBuf>,

            /// Credentials of our own calls (user:password, "ApiKey …" or "Bearer …"). Not a flag:
            /// command lines are visible to everybody on the machine.
            #[arg(skip)]
            pub(super) upstream_auth: Option<Secret>,

            /// Tenants by name (tables of the file only).
            #[arg(skip)]
            pub(super) tenants: Option<BTreeMap<String, Arc<TenantSpec>>>,

            /// Limits by class of callers that nobody vouches for, each by its address (tables of the file
            /// only).
            #[arg(skip)]
            pub(super) unverified: Option<AddressLimits>,

            $( $(#[$meta])* #[arg(long, env = $env, value_name = $value)] pub(super) $name: Option<$type>, )*
        }

        impl Layer {
            /// This layer's settings, where absent those of `lower`.
            pub(super) fn over(self, lower: Self) -> Self {
                Self {
                    config: self.config.or(lower.config),
                    upstream_auth: self.upstream_auth.or(lower.upstream_auth),
                    tenants: self.tenants.or(lower.tenants),
                    unverified: self.unverified.or(lower.unverified),
                    $( $name: self.$name.or(lower.$name), )*
                }
            }
        }
    };
}

layer! {
    /// Address that clients connect to [default: 127.0.0.1:9201].
    listen: SocketAddr, "OUTRIGGER_LISTEN", "ADDR:PORT";
    /// Address that clients which look for nodes themselves (sniff) are told for the node beside us
    /// [default: the one that their connection arrived on].
    advertise: Word<HostPort>, "OUTRIGGER_ADVERTISE", "HOST:PORT";
    /// What such clients are told for other nodes: NODE=host:port for single ones, by name or address, and for
    /// the rest one of beside (the node's host, our port), self (our own address) or keep (what
    /// Elasticsearch publishes) [default: beside].
    advertise_nodes: Word<AdvertisedNodes>, "OUTRIGGER_ADVERTISE_NODES", "RULE[,RULE]";
    /// Elasticsearch node beside us, http://host:port or https://host:port; further nodes of the same cluster after
    /// commas, used when the first does not answer [default: http://127.0.0.1:9200].
    upstream: String, "OUTRIGGER_UPSTREAM", "URL[,URL]";
    /// File with the credentials of our own calls: user:password, "ApiKey …" or "Bearer …". Or the
    /// environment variable OUTRIGGER_UPSTREAM_AUTH with the credentials themselves.
    #[arg(alias = "upstream-auth")]
    upstream_auth_file: PathBuf, "OUTRIGGER_UPSTREAM_AUTH_FILE", "FILE";
    /// Certificate that clients see, PEM, followed by those that lead to its authority; with it the port
    /// speaks HTTPS only. Read again when it changes [default: none, plain HTTP].
    tls_certificate: PathBuf, "OUTRIGGER_TLS_CERTIFICATE", "FILE";
    /// Its private key, PEM, not encrypted.
    tls_key: PathBuf, "OUTRIGGER_TLS_KEY", "FILE";
    /// Versions of TLS that clients may use [default: 1.2,1.3].
    tls_versions: Word<Versions>, "OUTRIGGER_TLS_VERSIONS", "VERSION[,VERSION]";
    /// Whether clients show certificates: none, optional or required [default: none].
    tls_client_auth: Word<ClientAuth>, "OUTRIGGER_TLS_CLIENT_AUTH", "MODE";
    /// Authorities that sign the clients' certificates, PEM.
    tls_client_ca: PathBuf, "OUTRIGGER_TLS_CLIENT_CA", "FILE";
    /// Time that a client has for the TLS handshake [default: 10s].
    tls_handshake_timeout: Word<Time>, "OUTRIGGER_TLS_HANDSHAKE_TIMEOUT", "TIME";
    /// How much of Elasticsearch's certificate is verified: full (authority, dates and name), certificate
    /// (any name) or none [default: full].
    upstream_verify: Word<Verify>, "OUTRIGGER_UPSTREAM_VERIFY", "MODE";
    /// Authorities that sign it, PEM [default: those that the system trusts].
    upstream_ca: PathBuf, "OUTRIGGER_UPSTREAM_CA", "FILE";
    /// Or the SHA-256 fingerprint of the authority, as Elasticsearch prints it at its first start, or of the
    /// certificate itself.
    upstream_ca_fingerprint: Word<Fingerprint>, "OUTRIGGER_UPSTREAM_CA_FINGERPRINT", "HEX";
    /// Our own certificate, PEM, where Elasticsearch asks for one.
    upstream_certificate: PathBuf, "OUTRIGGER_UPSTREAM_CERTIFICATE", "FILE";
    /// Its private key, PEM, not encrypted.
    upstream_key: PathBuf, "OUTRIGGER_UPSTREAM_KEY", "FILE";
    /// Whether clients may be served over plain HTTP, and with an Elasticsearch that has no security. Where they
    /// may not, the program ends with an error that says so [default: while listen is a loopback address].
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_insecure: bool, "OUTRIGGER_ALLOW_INSECURE", "BOOL";
    /// Directory for snapshots of the indexes [default: outrigger-data].
    data_dir: PathBuf, "OUTRIGGER_DATA_DIR", "DIR";
    /// Address of health, metrics and switches [default: 127.0.0.1:9211].
    admin_listen: SocketAddr, "OUTRIGGER_ADMIN_LISTEN", "ADDR:PORT";
    /// File with the token that admin calls must carry; required where the admin address is not
    /// loopback.
    admin_token_file: PathBuf, "OUTRIGGER_ADMIN_TOKEN_FILE", "FILE";
    /// Whether the admin port speaks HTTPS too, with tls_certificate [default: false].
    admin_tls: bool, "OUTRIGGER_ADMIN_TLS", "BOOL";
    /// What is done with searches that could be answered here: serve, shadow (Elasticsearch answers,
    /// ours is compared) or pass [default: serve].
    mode: Word<Mode>, "OUTRIGGER_MODE", "MODE";
    /// Whether Elasticsearch decides who may see what: auto (ask it), on or off [default: auto]. Where it does,
    /// a search is answered without it only if the caller may read all of the index.
    security: Word<SecurityMode>, "OUTRIGGER_SECURITY", "MODE";
    /// How long Elasticsearch's word on a caller (who it is, what it may read) holds: how long a right that
    /// was taken away may still show in answers [default: 5s].
    identity_ttl: Word<Time>, "OUTRIGGER_IDENTITY_TTL", "TIME";
    /// Callers of whom that is remembered [default: 100000].
    identity_cache: usize, "OUTRIGGER_IDENTITY_CACHE", "N";
    /// What a dense_vector without index_options becomes: ivf or elasticsearch (left alone)
    /// [default: ivf].
    mapping_unspecified: Word<Unspecified>, "OUTRIGGER_MAPPING_UNSPECIFIED", "TYPE";
    /// Indices whose vector fields are indexed here too, whatever type their mappings name: patterns
    /// with *, after commas, a leading - excludes, e.g. vec-*,-vec-old* [default: none].
    mapping_adopt: Word<IndexPatterns>, "OUTRIGGER_MAPPING_ADOPT", "PATTERNS";
    /// Versions of Elasticsearch later than those known (8.10 to 9.2) that are served as the newest known one
    /// before them, e.g. 9.3 or 9.3.1,10.0; with all others everything passes [default: none].
    allow_version: Word<AllowedVersions>, "OUTRIGGER_ALLOW_VERSION", "VERSION[,VERSION]";
    /// Threads that serve requests [default: one per core].
    workers: usize, "OUTRIGGER_WORKERS", "N";
    /// Client connections at once [default: 10000].
    max_connections: usize, "OUTRIGGER_MAX_CONNECTIONS", "N";
    /// Largest request body, as http.max_content_length of Elasticsearch [default: 100mb].
    max_body: Word<Bytes>, "OUTRIGGER_MAX_BODY", "SIZE";
    /// Longest request line, as http.max_initial_line_length of Elasticsearch [default: 4kb].
    max_initial_line: Word<Bytes>, "OUTRIGGER_MAX_INITIAL_LINE", "SIZE";
    /// Longest headers of a request together, as http.max_header_size of Elasticsearch [default: 16kb].
    max_header: Word<Bytes>, "OUTRIGGER_MAX_HEADER", "SIZE";
    /// Memory for request bodies that are read to be understood, of all requests together; beyond it searches
    /// pass unread [default: 256mb].
    intercept_memory: Word<Bytes>, "OUTRIGGER_INTERCEPT_MEMORY", "SIZE";
    /// How long a client may take for the head of a request; idle connections stay [default: 60s].
    client_head_timeout: Word<Time>, "OUTRIGGER_CLIENT_HEAD_TIMEOUT", "TIME";
    /// How long a client may pause within the body of a request [default: 5m].
    client_body_timeout: Word<Time>, "OUTRIGGER_CLIENT_BODY_TIMEOUT", "TIME";
    /// How long a client may leave a response that it asked for untaken [default: 10m].
    client_write_timeout: Word<Time>, "OUTRIGGER_CLIENT_WRITE_TIMEOUT", "TIME";
    /// Memory for documents of earlier hits, so that a search that finds them again need not ask
    /// Elasticsearch; 0 for none [default: 64mb].
    document_cache: Word<Bytes>, "OUTRIGGER_DOCUMENT_CACHE", "SIZE";
    /// Memory for filters of knn searches: which documents they let through, so that a search with a filter
    /// that was seen before need not ask Elasticsearch; 0 for none [default: 64mb].
    filter_memory: Word<Bytes>, "OUTRIGGER_FILTER_MEMORY", "SIZE";
    /// Memory for vectors of writes that wait for Elasticsearch's acknowledgement [default: 256mb].
    /// Beyond it writes are learnt from Elasticsearch afterwards, and with 0kb all are.
    write_memory: Word<Bytes>, "OUTRIGGER_WRITE_MEMORY", "SIZE";
    /// Memory that all indexes together may hold, vectors in files not counted [default: no limit].
    /// At the limit vectors go to files; what still does not fit is left to Elasticsearch.
    memory_budget: Word<Bytes>, "OUTRIGGER_MEMORY_BUDGET", "SIZE";
    /// Memory for acknowledged writes until a refresh shows them; beyond it their vectors are fetched from
    /// Elasticsearch then [default: 128mb].
    hold_memory: Word<Bytes>, "OUTRIGGER_HOLD_MEMORY", "SIZE";
    /// Time to connect to Elasticsearch [default: 5s].
    connect_timeout: Word<Time>, "OUTRIGGER_CONNECT_TIMEOUT", "TIME";
    /// Time from the end of a request to the head of Elasticsearch's response [default: 1h].
    response_timeout: Word<Time>, "OUTRIGGER_RESPONSE_TIMEOUT", "TIME";
    /// How long a response that acknowledges a refresh is held until it is visible here [default: 30s].
    publish_timeout: Word<Time>, "OUTRIGGER_PUBLISH_TIMEOUT", "TIME";
    /// How long requests in flight may take at shutdown [default: 30s].
    drain_timeout: Word<Time>, "OUTRIGGER_DRAIN_TIMEOUT", "TIME";
    /// Requests that Elasticsearch may have of us at once; further ones wait for their turn, tenants as their
    /// weights say, and where too many wait they are refused [default: no limit].
    max_in_flight: usize, "OUTRIGGER_MAX_IN_FLIGHT", "N";
    /// Exact scans (knn searches that pass to an ivf field) at once [default: 4].
    passed_knn_concurrency: usize, "OUTRIGGER_PASSED_KNN_CONCURRENCY", "N";
    /// How long such a search may wait for its turn [default: 1s].
    passed_knn_wait: Word<Time>, "OUTRIGGER_PASSED_KNN_WAIT", "TIME";
    /// Vectors that such searches may compare per second [default: 8000000].
    passed_knn_vectors_per_second: u32, "OUTRIGGER_PASSED_KNN_VECTORS_PER_SECOND", "N";
    /// Header that names the tenant of a request [default: x-tenant-id].
    tenant_header: Word<HeaderName>, "OUTRIGGER_TENANT_HEADER", "NAME";
    /// Addresses of peers whose tenant header counts, such as a gateway's: networks after commas, e.g.
    /// 10.0.0.0/8,192.168.1.7 [default: none].
    tenant_header_from: Word<Networks>, "OUTRIGGER_TENANT_HEADER_FROM", "NETWORK[,NETWORK]";
    /// How often changes of stored tenants are looked for [default: 2s].
    tenants_interval: Word<Time>, "OUTRIGGER_TENANTS_INTERVAL", "TIME";
    /// How often it is measured what tenants store [default: 10s].
    usage_interval: Word<Time>, "OUTRIGGER_USAGE_INTERVAL", "TIME";
    /// How often names and mappings are asked for: how stale they may be [default: 100ms].
    catalog_interval: Word<Time>, "OUTRIGGER_CATALOG_INTERVAL", "TIME";
    /// How often refreshes are looked for while indices change [default: 20ms].
    feed_interval: Word<Time>, "OUTRIGGER_FEED_INTERVAL", "TIME";
    /// Indices (names with * for any characters, separated by commas) in which each search first makes
    /// sure that everything Elasticsearch shows is found; costs one small request per search, shared by
    /// concurrent ones [default: none].
    strict: Word<IndexPatterns>, "OUTRIGGER_STRICT", "PATTERN[,PATTERN]";
    /// Documents per second that first builds of indexes may read from Elasticsearch, all together
    /// [default: no limit].
    build_rate: u64, "OUTRIGGER_BUILD_RATE", "N";
    /// Time between snapshots of an index that changes [default: 30s].
    snapshot_interval: Word<Time>, "OUTRIGGER_SNAPSHOT_INTERVAL", "TIME";
    /// Which events are logged, e.g. info or warn,shard_sync=debug [default: info].
    log: String, "OUTRIGGER_LOG", "FILTER";
    /// Where decisions about requests are written, a line of JSON for each: stdout, or a file that is opened
    /// again on SIGHUP [default: nowhere].
    audit_log: Word<AuditTarget>, "OUTRIGGER_AUDIT_LOG", "FILE|stdout";
    /// Which decisions, after commas: refused, answered (here, so that Elasticsearch's own audit and slow logs
    /// miss them), passed, failed, changed (limits and quotas) [default: refused,answered,changed].
    audit_events: Word<AuditEvents>, "OUTRIGGER_AUDIT_EVENTS", "EVENT[,EVENT]";
    /// How log lines look: json or text [default: json].
    log_format: Word<LogFormat>, "OUTRIGGER_LOG_FORMAT", "FORMAT";
}

impl Layer {
    /// The layer of a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("config file {}", path.display()))?;
        // The error's own text quotes the line, which may hold a secret.
        toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            anyhow!("config file {}, line {line}: {}", path.display(), error.message())
        })
    }
}
