//! Which requests are whose: the rules of all tenants, ready to be asked.

use std::collections::HashMap;

use es_tls::CertificateNames;

use crate::door::tenant::Rule;
use crate::door::tenant::names::{Names, NotTaken};
use crate::door::tenant::spec::TenantSpec;

/// What Elasticsearch has verified of a caller, as far as rules ask for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims<'a> {
    pub(crate) username: &'a str,
    pub(crate) roles: &'a [Box<str>],
    pub(crate) realm: Option<&'a str>,
    /// Id and name.
    pub(crate) api_key: Option<(&'a str, Option<&'a str>)>,
    /// What is text in them, by key.
    pub(crate) metadata: &'a [(Box<str>, Box<str>)],
}

/// See the head of this file. A tenant is its number.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    api_keys: Names,
    users: Names,
    metadata: HashMap<Box<str>, Names>,
    roles: Names,
    realms: Names,
    certificates: Names,
    headers: Names,
    indices: Names,
}

impl Rules {
    /// Adds a tenant's rules. What cannot be added is told, the kind and the name, and left out.
    pub(crate) fn add(&mut self, tenant: u32, spec: &TenantSpec) -> Vec<(&'static str, String, NotTaken)> {
        let mut left = Vec::new();
        let kinds = [
            ("users", &mut self.users, &spec.users),
            ("roles", &mut self.roles, &spec.roles),
            ("realms", &mut self.realms, &spec.realms),
            ("certificates", &mut self.certificates, &spec.certificates),
            ("api_keys", &mut self.api_keys, &spec.api_keys),
            ("headers", &mut self.headers, &spec.headers),
            ("indices", &mut self.indices, &spec.indices),
        ];
        for (kind, names, own) in kinds {
            for name in own {
                left.extend(names.add(name, tenant).err().map(|why| (kind, name.clone(), why)));
            }
        }
        for (key, value) in &spec.metadata {
            let names = self.metadata.entry(key.as_str().into()).or_default();
            left.extend(
                names.add(value, tenant).err().map(|why| ("metadata", format!("{key}={value}"), why)),
            );
        }
        left
    }

    /// Whether some rule asks who the caller is.
    pub(crate) fn ask_for_identity(&self) -> bool {
        let kinds = [&self.api_keys, &self.users, &self.roles, &self.realms];
        kinds.iter().any(|names| !names.is_empty()) || !self.metadata.is_empty()
    }

    /// Whether some rule asks for the target.
    pub(crate) fn ask_for_indices(&self) -> bool {
        !self.indices.is_empty()
    }

    /// Whose a verified caller is.
    pub(crate) fn of_identity(&self, claims: &Claims<'_>) -> Option<(u32, Rule)> {
        let of_key = || {
            let (id, name) = claims.api_key?;
            self.api_keys.find(id).or_else(|| self.api_keys.find(name?))
        };
        let of_metadata = || {
            let mut held = claims.metadata.iter().filter(|_| !self.metadata.is_empty());
            held.find_map(|(key, value)| self.metadata.get(key)?.find(value))
        };
        let of_roles = || claims.roles.iter().find_map(|role| self.roles.find(role));
        let with = |rule: Rule| move |tenant: u32| (tenant, rule);
        of_key()
            .map(with(Rule::ApiKey))
            .or_else(|| self.users.find(claims.username).map(with(Rule::User)))
            .or_else(|| of_metadata().map(with(Rule::Metadata)))
            .or_else(|| of_roles().map(with(Rule::Role)))
            .or_else(|| self.realms.find(claims.realm?).map(with(Rule::Realm)))
    }

    /// Whose a certificate is, by the first of its names that a rule knows.
    pub(crate) fn of_certificate(&self, names: &CertificateNames) -> Option<u32> {
        if self.certificates.is_empty() {
            return None;
        }
        names.iter().find_map(|name| self.certificates.find(name))
    }

    /// Whose a header's value is.
    pub(crate) fn of_header(&self, value: &str) -> Option<u32> {
        self.headers.find(value)
    }

    /// Whose the indices named in a path are, where they are all one tenant's. What stands for many is a name
    /// like any other: `acme-*` is below `acme-*`, and `*` is nobody's.
    pub(crate) fn of_indices(&self, names: &str) -> Option<u32> {
        let mut owner = None;
        for name in names.split(',') {
            let of_name = self.indices.find(name.trim())?;
            if *owner.get_or_insert(of_name) != of_name {
                return None;
            }
        }
        owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(specs: &[&str]) -> Rules {
        let mut rules = Rules::default();
        for (number, text) in specs.iter().enumerate() {
            let left = rules.add(number as u32, &serde_json::from_str(text).unwrap());
            assert!(left.is_empty(), "{left:?}");
        }
        rules
    }

    const NOBODY: Claims<'_> =
        Claims { username: "nobody", roles: &[], realm: None, api_key: None, metadata: &[] };

    #[test]
    fn verified_callers_find_their_tenant_by_the_most_special_rule() {
        let rules = rules(&[
            r#"{"api_keys":["id1","nightly-*"]}"#,
            r#"{"users":["alice"],"roles":["writers"]}"#,
            r#"{"roles":["readers"],"realms":["saml1"]}"#,
            r#"{"metadata":{"team":"blue"}}"#,
        ]);
        assert!(rules.ask_for_identity() && !rules.ask_for_indices());
        let roles = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<Box<str>>>();
        let both = roles(&["other", "readers", "writers"]);
        let metadata: &[(Box<str>, Box<str>)] =
            &[("team".into(), "blue".into()), ("level".into(), "high".into())];
        for (claims, found) in [
            (NOBODY, None),
            (Claims { username: "alice", roles: &both, metadata, ..NOBODY }, Some((1, Rule::User))),
            (Claims { roles: &both, metadata, ..NOBODY }, Some((3, Rule::Metadata))),
            (Claims { roles: &both, realm: Some("saml1"), ..NOBODY }, Some((2, Rule::Role))),
            (Claims { realm: Some("saml1"), ..NOBODY }, Some((2, Rule::Realm))),
            (Claims { username: "alice", api_key: Some(("id1", None)), ..NOBODY }, Some((0, Rule::ApiKey))),
            (Claims { api_key: Some(("id2", Some("nightly-7"))), ..NOBODY }, Some((0, Rule::ApiKey))),
            (Claims { api_key: Some(("id2", Some("x"))), ..NOBODY }, None),
        ] {
            assert_eq!(rules.of_identity(&claims), found, "{claims:?}");
        }
    }

    #[test]
    fn all_indices_of_a_path_must_be_one_tenants() {
        let rules = rules(&[r#"{"indices":["a-*"]}"#, r#"{"indices":["b-*","shared"]}"#]);
        for (names, tenant) in [
            ("a-1", Some(0)),
            ("a-1,a-2", Some(0)),
            ("a-*", Some(0)),
            ("a-1,b-1", None),
            ("b-1, shared", Some(1)),
            ("*", None),
            ("", None),
            ("_all", None),
            ("a-1,-a-2", None),
        ] {
            assert_eq!(rules.of_indices(names), tenant, "{names}");
        }
    }
}
