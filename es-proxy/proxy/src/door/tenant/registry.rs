//! All tenants: those of the configuration, which win, and those that are stored. Replaced as a whole while
//! requests are served; whoever holds a tenant keeps it as it was.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use es_wire::{IndexPatterns, segments};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use ipnet::IpNet;
use parking_lot::Mutex;

use crate::door::Peer;
use crate::door::limits::fair::Flow;
use crate::door::limits::{Addresses, Gates};
use crate::door::tenant::names::NotTaken;
use crate::door::tenant::rules::{Claims, Rules};
use crate::door::tenant::spec::{AddressLimits, DEFAULT_TENANT, OTHER_TENANT, TenantSpec, check_limits};
use crate::door::tenant::{Rule, Source, Tenant};

/// Tenants altogether; more are not taken.
const MAX_TENANTS: usize = 100_000;

/// What the configuration says of tenants.
#[derive(Clone, Debug)]
pub struct TenantConfig {
    /// The tenants.
    pub tenants: BTreeMap<String, Arc<TenantSpec>>,
    /// The header that names a tenant.
    pub header: HeaderName,
    /// Peers that may send it; from others it means nothing.
    pub header_from: Vec<IpNet>,
    /// Limits of callers that nobody vouches for, each by its address.
    pub unverified: AddressLimits,
}

impl Default for TenantConfig {
    fn default() -> Self {
        Self {
            tenants: BTreeMap::new(),
            header: HeaderName::from_static("x-tenant-id"),
            header_from: Vec::new(),
            unverified: AddressLimits::new(),
        }
    }
}

/// A part of what is stored that is not in force, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The tenant that it was said of.
    pub tenant: String,
    /// What is wrong.
    pub reason: String,
}

/// See the head of this file.
pub struct Tenants {
    config: TenantConfig,
    table: ArcSwap<Table>,
    /// One change at a time.
    changing: Mutex<()>,
    addresses: Addresses,
    /// Requests by the rule that matched.
    matched: [AtomicU64; Rule::ALL.len()],
}

/// Whose a request is, and why.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) rule: Rule,
    /// Something is configured, so that requests are counted.
    pub(crate) counted: bool,
}

struct Table {
    tenants: Vec<Arc<Tenant>>,
    numbers: HashMap<Arc<str>, u32>,
    default: u32,
    other: u32,
    rules: Rules,
    /// Nothing is configured or stored: every request is `default`'s.
    idle: bool,
    /// Some tenant must stay within its indices.
    binds: bool,
}

impl Tenants {
    /// The tenants of the configuration; the error says what is wrong with it.
    pub fn new(config: TenantConfig) -> Result<Self, String> {
        check_limits(&config.unverified).map_err(|error| format!("unverified: {error}"))?;
        for (name, spec) in &config.tenants {
            let checked = spec.check(name).and_then(|()| spec.check_quotas());
            checked.map_err(|error| format!("tenants.{name}: {error}"))?;
        }
        let (table, problems) = Table::of(&config, BTreeMap::new(), None);
        if let Some(problem) = problems.first() {
            return Err(format!("tenants.{}: {}", problem.tenant, problem.reason));
        }
        Ok(Self::with(config, table))
    }

    fn with(config: TenantConfig, table: Table) -> Self {
        let addresses = Addresses::new(config.unverified.clone());
        let (changing, matched) = (Mutex::default(), Default::default());
        Self { config, table: ArcSwap::from_pointee(table), changing, addresses, matched }
    }

    /// Replaces the stored tenants. Those that the configuration names too stay as it says. What cannot be in
    /// force is returned, and left out; the rest is.
    pub fn store(&self, stored: BTreeMap<String, TenantSpec>) -> Vec<Problem> {
        let _alone = self.changing.lock();
        let (mut fine, mut problems) = (BTreeMap::new(), Vec::new());
        for (tenant, spec) in stored {
            let refused = if self.config.tenants.contains_key(&tenant) {
                Some("the configuration names this tenant, and wins".to_owned())
            } else {
                spec.check(&tenant).err()
            };
            match refused {
                Some(reason) => problems.push(Problem { tenant, reason }),
                None => _ = fine.insert(tenant, Arc::new(spec)),
            }
        }
        let (table, of_rules) = Table::of(&self.config, fine, Some(&self.table.load()));
        problems.extend(of_rules);
        for Problem { tenant, reason } in &problems {
            tracing::warn!(tenant, reason, "not in force of what is stored of a tenant");
        }
        self.table.store(Arc::new(table));
        problems
    }

    /// The tenant of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Tenant>> {
        let table = self.table.load();
        table.numbers.get(name).map(|&number| table.tenant(number))
    }

    /// All tenants by name, `default` and `other` among them.
    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let mut all = self.table.load().tenants.clone();
        all.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// What the configuration says.
    pub fn config(&self) -> &TenantConfig {
        &self.config
    }

    /// Whether it matters who a caller is.
    pub fn need_identity(&self) -> bool {
        !self.config.unverified.is_empty() || self.table.load().rules.ask_for_identity()
    }

    /// Whether some tenant must stay within its indices, so that nobody may be taken for another one.
    pub(crate) fn bind_some(&self) -> bool {
        self.table.load().binds
    }

    /// Whose a request is.
    pub(crate) fn account(&self, peer: &Peer, claims: Option<Claims<'_>>, parts: &Parts) -> Account {
        let table = self.table.load();
        if table.idle {
            return table.account((table.default, Rule::Unmatched));
        }
        let found = claims
            .and_then(|claims| table.rules.of_identity(&claims))
            .or_else(|| table.of_certificate(peer))
            .or_else(|| self.of_header(&table, peer.address.ip(), parts))
            .or_else(|| table.of_target(parts.uri.path()))
            .unwrap_or((table.default, Rule::Unmatched));
        self.matched[found.1 as usize].fetch_add(1, Ordering::Relaxed);
        table.account(found)
    }

    /// Limits of the caller's address, where nobody vouches for the caller.
    pub(crate) fn of_address(&self, address: IpAddr, is_verified: bool, rule: Rule) -> Option<Arc<Gates>> {
        // Whoever may name tenants answers for what comes through him; an authority for whom it signed.
        let is_vouched_for =
            is_verified || matches!(rule, Rule::Certificate | Rule::Header | Rule::UnknownHeader);
        if is_vouched_for { None } else { self.addresses.of(address) }
    }

    /// Limits by address.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How many requests a rule decided about.
    pub(crate) fn matched(&self, rule: Rule) -> u64 {
        self.matched[rule as usize].load(Ordering::Relaxed)
    }

    fn of_header(&self, table: &Table, peer: IpAddr, parts: &Parts) -> Option<(u32, Rule)> {
        let mut values = parts.headers.get_all(&self.config.header).iter();
        let value = values.next()?;
        let peer = peer.to_canonical();
        if !self.config.header_from.iter().any(|net| net.contains(&peer)) {
            return None;
        }
        // Several values name nobody: which one counts would be anybody's guess.
        let known = |value: &HeaderValue| table.rules.of_header(value.to_str().ok()?.trim());
        Some(match known(value).filter(|_| values.next().is_none()) {
            Some(tenant) => (tenant, Rule::Header),
            None => (table.other, Rule::UnknownHeader),
        })
    }
}

impl Default for Tenants {
    fn default() -> Self {
        let config = TenantConfig::default();
        let (table, _) = Table::of(&config, BTreeMap::new(), None);
        Self::with(config, table)
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("tenants", &self.table.load().tenants.len()).finish_non_exhaustive()
    }
}

impl Table {
    /// Limits that are as they were `before` go on.
    fn of(
        config: &TenantConfig,
        stored: BTreeMap<String, Arc<TenantSpec>>,
        before: Option<&Self>,
    ) -> (Self, Vec<Problem>) {
        let idle = config.tenants.is_empty()
            && stored.is_empty()
            && config.header_from.is_empty()
            && config.unverified.is_empty();
        let mut table = Self {
            tenants: Vec::new(),
            numbers: HashMap::new(),
            default: 0,
            other: 0,
            rules: Rules::default(),
            idle,
            binds: false,
        };
        let mut problems = Vec::new();
        // The configuration's first: a name that two tenants claim is the first one's.
        for (name, spec) in &config.tenants {
            table.add(name, Arc::clone(spec), Source::File, before, &mut problems);
        }
        for (name, spec) in stored {
            table.add(&name, spec, Source::Stored, before, &mut problems);
        }
        for name in [DEFAULT_TENANT, OTHER_TENANT] {
            if !table.numbers.contains_key(name) {
                table.add(name, Arc::default(), Source::BuiltIn, before, &mut problems);
            }
        }
        (table.default, table.other) = (table.numbers[DEFAULT_TENANT], table.numbers[OTHER_TENANT]);
        (table, problems)
    }

    fn add(
        &mut self,
        name: &str,
        spec: Arc<TenantSpec>,
        source: Source,
        before: Option<&Self>,
        problems: &mut Vec<Problem>,
    ) {
        let mut problem = |reason| problems.push(Problem { tenant: name.to_owned(), reason });
        if self.tenants.len() >= MAX_TENANTS && source != Source::BuiltIn {
            problem(format!("there are more than {MAX_TENANTS} tenants"));
            return;
        }
        let number = self.tenants.len() as u32;
        for (kind, rule, why) in self.rules.add(number, &spec) {
            problem(match why {
                NotTaken::Taken(owner) => {
                    format!("[{kind}] [{rule}] is tenant [{}]'s already", self.tenants[owner as usize].name())
                }
                NotTaken::TooManyPatterns => {
                    format!("[{kind}] [{rule}]: too many patterns with a * before their end")
                }
            });
        }
        // Both were checked before. Patterns that could not be read would bind to nothing, not to everything.
        let bound_to = spec.bound_to().unwrap_or_else(|_| Some(IndexPatterns::default()));
        let before = before.and_then(|table| Some(&table.tenants[*table.numbers.get(name)? as usize]));
        let gates = Gates::new(&format!("tenant [{name}]"), &spec.limits, before.map(|tenant| &tenant.gates));
        // Equal names share a queue, also after a change.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let flow = Flow { key: hasher.finish(), weight: spec.weight.unwrap_or(1) };
        let name: Arc<str> = name.into();
        self.binds |= bound_to.is_some();
        self.numbers.insert(Arc::clone(&name), number);
        self.tenants.push(Arc::new(Tenant { name, spec, source, bound_to, gates, flow }));
    }

    fn of_certificate(&self, peer: &Peer) -> Option<(u32, Rule)> {
        let names = peer.certificate.as_ref()?;
        self.rules.of_certificate(names).map(|tenant| (tenant, Rule::Certificate))
    }

    fn of_target(&self, path: &str) -> Option<(u32, Rule)> {
        if !self.rules.ask_for_indices() {
            return None;
        }
        let names = segments(path)?.into_iter().next()?;
        self.rules.of_indices(&names).map(|tenant| (tenant, Rule::Index))
    }

    fn tenant(&self, number: u32) -> Arc<Tenant> {
        Arc::clone(&self.tenants[number as usize])
    }

    fn account(&self, (number, rule): (u32, Rule)) -> Account {
        Account { tenant: self.tenant(number), rule, counted: !self.idle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> TenantConfig {
        let tenants = serde_json::from_str(text).unwrap();
        TenantConfig { tenants, header_from: vec!["10.0.0.0/8".parse().unwrap()], ..TenantConfig::default() }
    }

    fn tenants(text: &str) -> Tenants {
        Tenants::new(config(text)).unwrap()
    }

    fn of(tenants: &Tenants, peer: &str, headers: &[&str], path: &str) -> (String, &'static str) {
        let mut request = http::Request::builder().uri(path);
        for value in headers {
            request = request.header("x-tenant-id", *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let address = (peer.parse::<IpAddr>().unwrap(), 7).into();
        let peer = Peer { address, local: address, certificate: None };
        let account = tenants.account(&peer, None, &parts);
        (account.tenant.name().to_owned(), account.rule.name())
    }

    #[test]
    fn the_header_counts_from_listed_peers_only_and_unknown_values_share_one_tenant() {
        let tenants = tenants(r#"{"a":{"headers":["a","eu-*"]},"b":{"indices":["b-*"]}}"#);
        for (peer, headers, path, tenant, rule) in [
            ("10.1.2.3", &["a"][..], "/b-1/_search", "a", "header"),
            ("10.1.2.3", &[" eu-7"], "/", "a", "header"),
            ("::ffff:10.1.2.3", &["a"], "/", "a", "header"),
            ("10.1.2.3", &["zzz"], "/b-1/_search", "other", "unknown_header"),
            ("10.1.2.3", &["a", "a"], "/", "other", "unknown_header"),
            ("10.1.2.3", &["default"], "/", "other", "unknown_header"),
            ("11.1.2.3", &["a"], "/b-1/_search", "b", "index"),
            ("11.1.2.3", &["a"], "/_search", "default", "default"),
            ("10.1.2.3", &[], "/b-1%2Cb-2/_search", "b", "index"),
            ("10.1.2.3", &[], "//b-1/_search", "default", "default"),
        ] {
            assert_eq!(
                of(&tenants, peer, headers, path),
                (tenant.to_owned(), rule),
                "{peer} {headers:?} {path}"
            );
        }
    }

    #[test]
    fn who_claims_the_name_of_another_is_refused_in_the_file_and_left_out_when_stored() {
        let refused = Tenants::new(config(r#"{"a":{"users":["u"],"quotas":{"indices":1}}}"#)).unwrap_err();
        assert!(refused.starts_with("tenants.a: [quotas]"), "{refused}");
        let refused = Tenants::new(config(r#"{"a":{"users":["u"]},"b":{"users":["u"]}}"#)).unwrap_err();
        assert!(refused.contains("tenants.b") && refused.contains("tenant [a]"), "{refused}");

        let tenants = tenants(r#"{"a":{"indices":["a-*"]}}"#);
        let stored =
            r#"{"a":{"indices":["z-*"]},"b":{"indices":["a-*","b-*"]},"B":{},"c":{"indices":["c-*"]}}"#;
        let problems = tenants.store(serde_json::from_str(stored).unwrap());
        let of_whom: Vec<&str> = problems.iter().map(|problem| problem.tenant.as_str()).collect();
        assert_eq!(of_whom, ["B", "a", "b"], "{problems:?}");
        for (path, tenant) in [("/a-1", "a"), ("/b-1", "b"), ("/c-1", "c"), ("/z-1", "default")] {
            assert_eq!(of(&tenants, "1.1.1.1", &[], path).0, tenant, "{path}");
        }
        assert_eq!(tenants.get("a").unwrap().source(), Source::File);
        assert_eq!(tenants.get("c").unwrap().source(), Source::Stored);
        let names: Vec<String> = tenants.all().iter().map(|tenant| tenant.name().to_owned()).collect();
        assert_eq!(names, ["a", "b", "c", "default", "other"]);

        tenants.store(BTreeMap::new());
        assert_eq!(of(&tenants, "1.1.1.1", &[], "/c-1").0, "default");
        assert!(tenants.get("c").is_none());
    }

    #[test]
    fn identity_is_asked_for_only_where_a_rule_does() {
        let tenants = tenants(r#"{"a":{"indices":["a-*"]}}"#);
        assert!(!tenants.need_identity());
        tenants.store(serde_json::from_str(r#"{"b":{"roles":["b"]}}"#).unwrap());
        assert!(tenants.need_identity());
        let unverified = serde_json::from_str(r#"{"search":{"requests_per_second":1}}"#).unwrap();
        let config = TenantConfig { unverified, ..TenantConfig::default() };
        assert!(Tenants::new(config).unwrap().need_identity());
    }
}
