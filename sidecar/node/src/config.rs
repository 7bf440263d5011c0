//! The configuration: one struct whose fields are flags, environment variables and keys of the file
//! alike, so that no setting can be reached in one way only.

mod secret;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use es_proxy::units::{Bytes, Time};
use es_proxy::{
    AddressLimits, Advertise, AdvertisedNodes, AuditEvents, AuditTarget, ClientTimeouts, HeadLimits,
    HostPort, Mode, PassedKnnLimits, ProxyConfig, SecurityMode, TenantConfig, TenantSpec, Tenants,
    UpstreamAddress,
};
use es_tls::{ClientAuth, Fingerprint, Verify, Versions};
use es_wire::{AllowedVersions, IndexPatterns};
use ipnet::IpNet;
use ivf_index::EngineConfig;
use serde::{Deserialize, Serialize};
use shard_sync::SyncConfig;

pub(crate) use self::secret::Secret;
use self::tls::Tls;

use crate::tenants::Intervals;

/// A value kept as written and read by its `FromStr`, in the file too.
#[derive(Clone, Debug)]
pub(crate) struct Word<T>(T);

impl<T: FromStr<Err = String>> FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Word)
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Word<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderName(http::HeaderName);

impl FromStr for HeaderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("[{text}] is no name of a header"))
    }
}

/// Networks, or single addresses, after commas.
#[derive(Clone, Debug)]
pub(crate) struct Networks(Vec<IpNet>);

impl FromStr for Networks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let net = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
            net.ok_or_else(|| format!("[{text}] is no network; write 10.0.0.0/8 or 192.168.1.7"))
        };
        text.split(',').map(str::trim).map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&all.join(","))
    }
}

/// What becomes of a `dense_vector` that names no `index_options`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unspecified {
    Ivf,
    Elasticsearch,
}

impl FromStr for Unspecified {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ivf" => Ok(Self::Ivf),
            "elasticsearch" => Ok(Self::Elasticsearch),
            other => Err(format!("[{other}] is none of ivf, elasticsearch")),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Json,
    Text,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("[{other}] is none of json, text")),
        }
    }
}

macro_rules! layer {
    ($( $(#[$meta:meta])* $name:ident : $type:ty, $env:literal, $value:literal; )*) => {
        /// Settings of one source; what is absent is left to the next source.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct Layer {
            /// Read further settings from this TOML file.
            #[arg(long, env = "OUTRIGGER_CONFIG", value_name = "FILE")]
            #[serde(skip)]
            config: Option<PathBuf>,

            /// Credentials of our own calls (user:password, "ApiKey …" or "Bearer …"). Not a flag:
            /// command lines are visible to everybody on the machine.
            #[arg(skip)]
            upstream_auth: Option<Secret>,

            /// Tenants by name (tables of the file only).
            #[arg(skip)]
            tenants: Option<BTreeMap<String, Arc<TenantSpec>>>,

            /// Limits by class of callers that nobody vouches for, each by its address (tables of the file
            /// only).
            #[arg(skip)]
            unverified: Option<AddressLimits>,

            $( $(#[$meta])* #[arg(long, env = $env, value_name = $value)] $name: Option<$type>, )*
        }

        impl Layer {
            /// This layer's settings, where absent those of `lower`.
            fn over(self, lower: Self) -> Self {
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

/// What is in force.
pub(crate) struct Config {
    pub(crate) proxy: ProxyConfig,
    pub(crate) sync: SyncConfig,
    pub(crate) data_dir: PathBuf,
    pub(crate) memory_budget: Option<u64>,
    pub(crate) hold_memory: u64,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) admin_token: Option<Secret>,
    pub(crate) tls: Tls,
    /// What the operator should know; said in the log once that is open.
    pub(crate) warnings: Vec<String>,
    pub(crate) mode: Mode,
    pub(crate) strict: IndexPatterns,
    pub(crate) audit_log: Option<AuditTarget>,
    pub(crate) audit_events: AuditEvents,
    pub(crate) tenant_intervals: Intervals,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

impl Config {
    /// Reads file and secrets, and checks what can be checked without touching the network.
    pub(crate) fn load(flags: Layer) -> anyhow::Result<Self> {
        let file = match &flags.config {
            Some(path) => read_layer(path)?,
            None => Layer::default(),
        };
        let environment =
            Layer { upstream_auth: Secret::from_environment("OUTRIGGER_UPSTREAM_AUTH"), ..Layer::default() };
        let secret_in_file = file.upstream_auth.is_some();
        let path = flags.config.clone();
        let mut config = Self::from_layer(flags.over(environment).over(file))?;
        if secret_in_file {
            config.warnings.extend(path.and_then(|path| secret::exposed(&path)));
        }
        Ok(config)
    }

    fn from_layer(layer: Layer) -> anyhow::Result<Self> {
        let mut proxy = proxy_config(&layer)?;
        let mut warnings = Vec::new();
        let tls = Tls::open(&layer, &proxy.upstream, &mut warnings)?;
        proxy.tls.clone_from(&tls.server);
        proxy.upstream_tls.clone_from(&tls.upstream);
        let admin_listen = layer.admin_listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9211)));
        let admin_token = layer.admin_token_file.as_deref().map(Secret::read).transpose()?;
        if admin_token.is_none() && !admin_listen.ip().is_loopback() {
            bail!(
                "admin_listen {admin_listen} is reachable from outside; set admin_token_file, or use 127.0.0.1"
            );
        }
        if admin_listen == proxy.listen && admin_listen.port() != 0 {
            bail!("listen and admin_listen are both {admin_listen}; they need two ports");
        }
        let auth = match (layer.upstream_auth, &layer.upstream_auth_file) {
            (Some(secret), _) => Some(secret),
            (None, Some(path)) => Some(Secret::read(path)?),
            (None, None) => None,
        };
        let secret_files = layer.admin_token_file.iter().chain(&layer.upstream_auth_file);
        warnings.extend(secret_files.filter_map(|path| secret::exposed(path)));
        if admin_token.is_some() && tls.admin.is_none() && !admin_listen.ip().is_loopback() {
            warnings.push(format!(
                "the admin token crosses the network in clear ({admin_listen}): set admin_tls"
            ));
        }
        let defaults = SyncConfig::default();
        let sync = SyncConfig {
            upstream: proxy.upstream.iter().map(UpstreamAddress::to_string).collect(),
            auth: auth.as_ref().map(Secret::as_auth).transpose()?,
            tls: tls.upstream.clone(),
            allow_versions: layer.allow_version.map(|word| word.0).unwrap_or_default(),
            adopt: layer.mapping_adopt.map(|word| word.0).unwrap_or_default(),
            catalog_interval: time(layer.catalog_interval, defaults.catalog_interval, "catalog_interval")?,
            feed_interval: time(layer.feed_interval, defaults.feed_interval, "feed_interval")?,
            snapshot_interval: time(
                layer.snapshot_interval,
                defaults.snapshot_interval,
                "snapshot_interval",
            )?,
            filter_memory: layer.filter_memory.map_or(defaults.filter_memory, |word| word.0.0),
            build_rate: match layer.build_rate {
                Some(0) => bail!("build_rate must be at least 1"),
                rate => rate,
            },
            ..defaults
        };
        let log = layer.log.unwrap_or_else(|| "info".into());
        log.parse::<tracing_subscriber::filter::Targets>()
            .with_context(|| format!("log [{log}] is no filter"))?;
        Ok(Self {
            proxy,
            sync,
            memory_budget: layer.memory_budget.map(|word| word.0.0),
            hold_memory: layer.hold_memory.map_or(EngineConfig::default().hold_bytes, |word| word.0.0),
            data_dir: layer.data_dir.unwrap_or_else(|| "outrigger-data".into()),
            admin_listen,
            admin_token,
            tenant_intervals: Intervals {
                tenants: time(layer.tenants_interval, Duration::from_secs(2), "tenants_interval")?,
                usage: time(layer.usage_interval, Duration::from_secs(10), "usage_interval")?,
            },
            tls,
            warnings,
            strict: layer.strict.map(|word| word.0).unwrap_or_default(),
            mode: layer.mode.map_or(Mode::Serve, |word| word.0),
            audit_log: layer.audit_log.map(|word| word.0),
            audit_events: layer.audit_events.map(|word| word.0).unwrap_or_default(),
            log,
            log_format: layer.log_format.map_or(LogFormat::Json, |word| word.0),
        })
    }
}

fn proxy_config(layer: &Layer) -> anyhow::Result<ProxyConfig> {
    let defaults = ProxyConfig::default();
    let upstream = match &layer.upstream {
        None => defaults.upstream.clone(),
        Some(list) => list
            .split(',')
            .map(|url| url.trim().parse::<UpstreamAddress>().map_err(anyhow::Error::msg))
            .collect::<Result<_, _>>()
            .context("upstream")?,
    };
    let listen = layer.listen.unwrap_or(defaults.listen);
    if upstream.iter().any(|node| format!("{}:{}", node.host, node.port) == listen.to_string()) {
        bail!("upstream and listen are both {listen}: requests would go round in circles");
    }
    let limits = PassedKnnLimits {
        concurrency: positive(
            layer.passed_knn_concurrency,
            defaults.passed_knn.concurrency,
            "passed_knn_concurrency",
        )?,
        wait: layer.passed_knn_wait.as_ref().map_or(defaults.passed_knn.wait, |word| word.0.0),
        vectors_per_second: layer
            .passed_knn_vectors_per_second
            .unwrap_or(defaults.passed_knn.vectors_per_second),
    };
    let tenants = TenantConfig {
        tenants: layer.tenants.clone().unwrap_or_default(),
        unverified: layer.unverified.clone().unwrap_or_default(),
        ..TenantConfig::default()
    };
    let tenants = TenantConfig {
        header: layer.tenant_header.as_ref().map_or(tenants.header, |word| word.0.0.clone()),
        header_from: layer.tenant_header_from.as_ref().map_or(tenants.header_from, |word| word.0.0.clone()),
        ..tenants
    };
    Ok(ProxyConfig {
        listen,
        advertise: Advertise {
            own: layer.advertise.as_ref().map(|word| word.0.clone()),
            nodes: layer.advertise_nodes.as_ref().map(|word| word.0.clone()).unwrap_or_default(),
        },
        upstream,
        workers: positive(layer.workers, defaults.workers, "workers")?,
        max_connections: positive(layer.max_connections, defaults.max_connections, "max_connections")?,
        max_body_bytes: layer.max_body.as_ref().map_or(defaults.max_body_bytes, |word| word.0.0),
        head: head_limits(layer, defaults.head)?,
        client_timeouts: client_timeouts(layer, defaults.client_timeouts)?,
        intercept_memory: layer.intercept_memory.as_ref().map_or(defaults.intercept_memory, |word| word.0.0),
        document_cache_bytes: layer
            .document_cache
            .as_ref()
            .map_or(defaults.document_cache_bytes, |word| word.0.0),
        write_memory: layer.write_memory.as_ref().map_or(defaults.write_memory, |word| word.0.0),
        identity_ttl: time(layer.identity_ttl.clone(), defaults.identity_ttl, "identity_ttl")?,
        identity_cache: positive(layer.identity_cache, defaults.identity_cache, "identity_cache")?,
        tls_handshake_timeout: time(
            layer.tls_handshake_timeout.clone(),
            defaults.tls_handshake_timeout,
            "tls_handshake_timeout",
        )?,
        connect_timeout: time(layer.connect_timeout.clone(), defaults.connect_timeout, "connect_timeout")?,
        response_timeout: time(
            layer.response_timeout.clone(),
            defaults.response_timeout,
            "response_timeout",
        )?,
        publish_timeout: time(layer.publish_timeout.clone(), defaults.publish_timeout, "publish_timeout")?,
        drain_timeout: layer.drain_timeout.as_ref().map_or(defaults.drain_timeout, |word| word.0.0),
        unspecified_is_ivf: layer.mapping_unspecified.as_ref().is_none_or(|word| word.0 == Unspecified::Ivf),
        security: layer.security.as_ref().map_or(defaults.security, |word| word.0),
        max_in_flight: match layer.max_in_flight {
            Some(0) => bail!("max_in_flight must be at least 1"),
            places => places,
        },
        passed_knn: limits,
        tenants: Arc::new(Tenants::new(tenants).map_err(anyhow::Error::msg)?),
        ..defaults
    })
}

fn head_limits(layer: &Layer, defaults: HeadLimits) -> anyhow::Result<HeadLimits> {
    let limit = |word: &Option<Word<Bytes>>, default: usize, name: &str| match word {
        // What is read of a head at all is 64 KiB.
        Some(Word(Bytes(bytes))) if !(1 << 10..=48 << 10).contains(bytes) => {
            bail!("{name} must be from 1kb to 48kb")
        }
        Some(Word(Bytes(bytes))) => Ok(*bytes as usize),
        None => Ok(default),
    };
    Ok(HeadLimits {
        max_line_bytes: limit(&layer.max_initial_line, defaults.max_line_bytes, "max_initial_line")?,
        max_header_bytes: limit(&layer.max_header, defaults.max_header_bytes, "max_header")?,
    })
}

fn client_timeouts(layer: &Layer, defaults: ClientTimeouts) -> anyhow::Result<ClientTimeouts> {
    Ok(ClientTimeouts {
        head: time(layer.client_head_timeout.clone(), defaults.head, "client_head_timeout")?,
        body: time(layer.client_body_timeout.clone(), defaults.body, "client_body_timeout")?,
        write: time(layer.client_write_timeout.clone(), defaults.write, "client_write_timeout")?,
    })
}

fn read_layer(path: &Path) -> anyhow::Result<Layer> {
    let text = std::fs::read_to_string(path).with_context(|| format!("config file {}", path.display()))?;
    // The error's own text quotes the line, which may hold a secret.
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        anyhow!("config file {}, line {line}: {}", path.display(), error.message())
    })
}

fn positive(value: Option<usize>, default: usize, name: &str) -> anyhow::Result<usize> {
    match value {
        Some(0) => bail!("{name} must be at least 1"),
        other => Ok(other.unwrap_or(default)),
    }
}

fn time(value: Option<Word<Time>>, default: Duration, name: &str) -> anyhow::Result<Duration> {
    match value {
        Some(Word(Time(time))) if time.is_zero() => bail!("{name} must be longer than 0"),
        Some(Word(Time(time))) => Ok(time),
        None => Ok(default),
    }
}

impl fmt::Display for Config {
    /// As a file that [`Config::load`] reads, with secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            writeln!(f, "{name} = {}", toml::Value::String(value.to_string()))
        };
        let (proxy, sync, limits) = (&self.proxy, &self.sync, &self.proxy.passed_knn);
        for warning in &self.warnings {
            writeln!(f, "# warning: {warning}")?;
        }
        text(f, "listen", &proxy.listen)?;
        if let Some(own) = &proxy.advertise.own {
            text(f, "advertise", own)?;
        }
        text(f, "advertise_nodes", &proxy.advertise.nodes)?;
        text(f, "upstream", &sync.upstream.join(","))?;
        if let Some(auth) = &sync.auth {
            writeln!(f, "# upstream_auth: {auth:?}")?;
        }
        self.tls.print(f)?;
        text(f, "tls_handshake_timeout", &Time(proxy.tls_handshake_timeout))?;
        text(f, "data_dir", &self.data_dir.display())?;
        text(f, "admin_listen", &self.admin_listen)?;
        if self.admin_token.is_some() {
            writeln!(f, "# admin_token: ***")?;
        }
        text(f, "mode", &self.mode.name())?;
        text(f, "security", &proxy.security)?;
        text(f, "identity_ttl", &Time(proxy.identity_ttl))?;
        writeln!(f, "identity_cache = {}", proxy.identity_cache)?;
        text(f, "mapping_unspecified", &if proxy.unspecified_is_ivf { "ivf" } else { "elasticsearch" })?;
        if !sync.allow_versions.is_empty() {
            text(f, "allow_version", &sync.allow_versions)?;
        }
        writeln!(f, "workers = {}", proxy.workers)?;
        writeln!(f, "max_connections = {}", proxy.max_connections)?;
        text(f, "max_body", &Bytes(proxy.max_body_bytes))?;
        text(f, "max_initial_line", &Bytes(proxy.head.max_line_bytes as u64))?;
        text(f, "max_header", &Bytes(proxy.head.max_header_bytes as u64))?;
        text(f, "intercept_memory", &Bytes(proxy.intercept_memory))?;
        text(f, "client_head_timeout", &Time(proxy.client_timeouts.head))?;
        text(f, "client_body_timeout", &Time(proxy.client_timeouts.body))?;
        text(f, "client_write_timeout", &Time(proxy.client_timeouts.write))?;
        if let Some(budget) = self.memory_budget {
            text(f, "memory_budget", &Bytes(budget))?;
        }
        text(f, "hold_memory", &Bytes(self.hold_memory))?;
        text(f, "document_cache", &Bytes(proxy.document_cache_bytes))?;
        text(f, "filter_memory", &Bytes(sync.filter_memory))?;
        text(f, "write_memory", &Bytes(proxy.write_memory))?;
        text(f, "connect_timeout", &Time(proxy.connect_timeout))?;
        text(f, "response_timeout", &Time(proxy.response_timeout))?;
        text(f, "publish_timeout", &Time(proxy.publish_timeout))?;
        text(f, "drain_timeout", &Time(proxy.drain_timeout))?;
        if let Some(places) = proxy.max_in_flight {
            writeln!(f, "max_in_flight = {places}")?;
        }
        writeln!(f, "passed_knn_concurrency = {}", limits.concurrency)?;
        text(f, "passed_knn_wait", &Time(limits.wait))?;
        writeln!(f, "passed_knn_vectors_per_second = {}", limits.vectors_per_second)?;
        text(f, "tenants_interval", &Time(self.tenant_intervals.tenants))?;
        text(f, "usage_interval", &Time(self.tenant_intervals.usage))?;
        text(f, "catalog_interval", &Time(sync.catalog_interval))?;
        text(f, "feed_interval", &Time(sync.feed_interval))?;
        text(f, "snapshot_interval", &Time(sync.snapshot_interval))?;
        if !self.strict.is_empty() {
            text(f, "strict", &self.strict)?;
        }
        if let Some(rate) = sync.build_rate {
            writeln!(f, "build_rate = {rate}")?;
        }
        if let Some(target) = &self.audit_log {
            text(f, "audit_log", target)?;
        }
        text(f, "audit_events", &self.audit_events)?;
        text(f, "log", &self.log)?;
        text(f, "log_format", &if self.log_format == LogFormat::Json { "json" } else { "text" })?;
        let tenants = proxy.tenants.config();
        text(f, "tenant_header", &tenants.header)?;
        if !tenants.header_from.is_empty() {
            text(f, "tenant_header_from", &Networks(tenants.header_from.clone()))?;
        }
        // Tables come last: what stands after one belongs to it.
        let tables = Tables { tenants: &tenants.tenants, unverified: &tenants.unverified };
        f.write_str(&toml::to_string(&tables).map_err(|_| fmt::Error)?)
    }
}

/// What is written as tables of the file.
#[derive(Serialize)]
struct Tables<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tenants: &'a BTreeMap<String, Arc<TenantSpec>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    unverified: &'a AddressLimits,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Config> {
        Config::from_layer(toml::from_str(text)?)
    }

    #[test]
    fn what_is_printed_can_be_read_and_says_the_same() {
        let config = load(
            "listen = '127.0.0.1:1'\nmode = 'shadow'\nmax_body = '3mb'\nlog = 'warn'\n\
            audit_log = '/var/log/audit.json'\naudit_events = 'passed,changed'",
        )
        .unwrap();
        let printed = config.to_string();
        assert_eq!(load(&printed).unwrap().to_string(), printed);
        assert!(printed.contains("max_body = \"3mb\""), "{printed}");
    }

    #[test]
    fn tenants_are_tables_of_the_file() {
        let text = r#"
            tenant_header_from = "10.0.0.0/8, 192.168.1.7"
            [tenants.acme]
            users = ["alice"]
            weight = 2
            [tenants.acme.limits.search]
            requests_per_second = 100
            wait = "250ms"
            [tenants.acme.quotas]
            vector_bytes = "1gb"
            [unverified.other]
            requests_per_second = 0.5
        "#;
        let config = load(text).unwrap();
        let acme = config.proxy.tenants.get("acme").unwrap();
        assert_eq!(acme.spec().weight, Some(2));
        let printed = config.to_string();
        assert_eq!(load(&printed).unwrap().to_string(), printed);
        for line in [
            "requests_per_second = 100",
            "wait = \"250ms\"",
            "10.0.0.0/8,192.168.1.7/32",
            "vector_bytes = \"1gb\"",
        ] {
            assert!(printed.contains(line), "{line}: {printed}");
        }
    }

    #[test]
    fn what_nodes_are_shown_with_and_which_versions_are_allowed_is_printed() {
        let config = load(
            "advertise = 'es.example:443'\nadvertise_nodes = 'es-2=b:9201,self'\nallow_version = '9.3, 10.0.1'",
        );
        let printed = config.unwrap().to_string();
        assert_eq!(load(&printed).unwrap().to_string(), printed);
        for line in [
            "advertise = \"es.example:443\"",
            "advertise_nodes = \"es-2=b:9201,self\"",
            "allow_version = \"9.3,10.0.1\"",
        ] {
            assert!(printed.contains(line), "{line}: {printed}");
        }
    }

    #[test]
    fn secrets_are_masked() {
        let printed = load("upstream_auth = 'feed:hunter2'").unwrap().to_string();
        assert!(printed.contains("feed") && !printed.contains("hunter2"), "{printed}");
        let layer: Layer = toml::from_str("upstream_auth = 'feed:hunter2'").unwrap();
        assert!(!format!("{layer:?}").contains("hunter2"));
    }

    #[test]
    fn secrets_are_not_in_errors() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outrigger.toml");
        for text in [
            "workers = 1\nupstream_auth = feed:hunter2\n",
            "upstream_auth = 'hunter2",
            "upstream_auth = 'hunter2'",
            "upstream_auth = ['hunter2']",
            "upstream = 'http://feed:hunter2@localhost:9200'",
        ] {
            std::fs::write(&file, text).unwrap();
            let flags = Layer { config: Some(file.clone()), ..Layer::default() };
            let message =
                format!("{:#}", Config::load(flags).err().unwrap_or_else(|| panic!("{text} was taken")));
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn wrong_settings_are_named() {
        for (text, named) in [
            ("listn = 'x'", "listn"),
            ("upstream = 'localhost:9200'", "upstream"),
            ("listen = '127.0.0.1:9200'", "circles"),
            ("admin_listen = '0.0.0.0:9211'", "admin_token_file"),
            ("admin_listen = '127.0.0.1:9201'", "two ports"),
            ("workers = 0", "workers"),
            ("max_in_flight = 0", "max_in_flight"),
            ("mode = 'off'", "serve, shadow, pass"),
            ("advertise = 'somewhere'", "host:9201"),
            ("advertise_nodes = 'all'", "beside, self, keep"),
            ("allow_version = 'any'", "9.3"),
            ("response_timeout = '0s'", "response_timeout"),
            ("audit_events = 'everything'", "refused, answered"),
            ("identity_ttl = '0s'", "identity_ttl"),
            ("identity_cache = 0", "identity_cache"),
            ("usage_interval = '0s'", "usage_interval"),
            ("client_head_timeout = '0s'", "client_head_timeout"),
            ("max_initial_line = '1mb'", "max_initial_line"),
            ("max_header = '0kb'", "max_header"),
            ("upstream_auth = 'secret'", "user:password"),
            ("tenant_header_from = '10.0.0.0/99'", "10.0.0.0/99"),
            ("tenant_header = 'a b'", "a b"),
            ("[tenants.Acme]", "Acme"),
            ("[tenants.a]\nuser = ['x']", "user"),
            ("[tenants.a]\nusers = ['x']\n[tenants.b]\nusers = ['x']", "tenant [a]"),
            ("[unverified.knn]\nrequests_per_second = 0", "requests_per_second"),
        ] {
            let message = format!("{:#}", load(text).err().unwrap_or_else(|| panic!("{text} was taken")));
            assert!(message.contains(named), "{text}: {message}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Layer { workers: Some(3), ..Layer::default() };
        let file: Layer = toml::from_str("workers = 5\nmax_connections = 7").unwrap();
        let config = Config::from_layer(flags.over(file)).unwrap();
        assert_eq!((config.proxy.workers, config.proxy.max_connections), (3, 7));
    }
}
