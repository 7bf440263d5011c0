//! What Elasticsearch's security says of a caller: who it is (`_security/_authenticate`) and what it may
//! read (`_security/user/_privileges`). Whatever is not understood counts against the caller.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Most bytes of metadata that are kept; a caller with more has none, as far as we are concerned.
const MAX_METADATA: usize = 4 << 10;
/// Longest name and value of metadata that are kept.
const MAX_TEXT: usize = 256;

/// Who a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user in whose name things are done; of an API key its owner.
    pub username: Box<str>,
    /// Names of the user's roles; none for an API key.
    pub roles: Box<[Box<str>]>,
    /// Name of the realm that knows the user: the one that looked it up, where one user acts as another.
    pub realm: Box<str>,
    /// By the certificate of the connection, not by what the request carries.
    pub by_certificate: bool,
    /// The API key, if it is one.
    pub api_key: Option<Box<ApiKey>>,
    is_anonymous: bool,
    /// What the user's metadata have as text, by key; nothing where they are too many.
    pub metadata: Box<[(Box<str>, Box<str>)]>,
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ApiKey {
    /// Made by Elasticsearch.
    pub id: Box<str>,
    /// Given by whoever made it.
    pub name: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Authenticated<'a> {
    username: Box<str>,
    #[serde(default)]
    roles: Vec<Box<str>>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(default = "yes")]
    enabled: bool,
    authentication_realm: Realm,
    lookup_realm: Option<Realm>,
    #[serde(borrow)]
    authentication_type: Cow<'a, str>,
    #[serde(default)]
    api_key: Option<Box<ApiKey>>,
}

#[derive(Deserialize)]
struct Realm {
    name: Box<str>,
    #[serde(default, rename = "type")]
    kind: Box<str>,
}

fn yes() -> bool {
    true
}

impl Principal {
    /// Reads the answer of `GET /_security/_authenticate`.
    pub fn parse(text: &str) -> Option<Self> {
        let told: Authenticated<'_> = serde_json::from_str(text).ok()?;
        if !told.enabled || told.username.is_empty() {
            return None;
        }
        let by_certificate = &*told.authentication_realm.kind == "pki";
        Some(Self {
            by_certificate,
            username: told.username,
            roles: told.roles.into(),
            realm: told.lookup_realm.unwrap_or(told.authentication_realm).name,
            is_anonymous: told.authentication_type == "anonymous",
            api_key: told.api_key,
            metadata: told.metadata.map(texts).unwrap_or_default(),
        })
    }

    /// Whether Elasticsearch does not know who this is: an anonymous user is everybody.
    pub fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }
}

/// Lists, such as a directory's groups of a user, are left out, however long they are.
fn texts(metadata: &RawValue) -> Box<[(Box<str>, Box<str>)]> {
    let held = serde_json::from_str::<Value>(metadata.get()).ok();
    let pairs = held.as_ref().and_then(Value::as_object).into_iter().flatten();
    let texts = pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let short: Vec<_> = texts.filter(|(key, value)| key.len() + value.len() <= MAX_TEXT).collect();
    if short.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_METADATA {
        return Box::default();
    }
    short.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

/// Which indices a user may read whole: every document, every field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRights {
    whole: Box<[Box<str>]>,
    /// What is allowed in part only; none of these may cover a name that is read whole.
    in_part: Box<[Box<str>]>,
}

#[derive(Deserialize)]
struct Privileges {
    indices: Vec<Group>,
}

/// One entry of `indices`. A key that is not known here makes it one that allows in part only.
#[derive(Deserialize)]
struct Group {
    names: Vec<Box<str>>,
    privileges: Vec<Box<str>>,
    field_security: Option<serde::de::IgnoredAny>,
    query: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "allow_restricted_indices")]
    _allow_restricted_indices: bool,
    #[serde(flatten)]
    unknown: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
}

impl Group {
    fn is_in_part(&self) -> bool {
        self.field_security.is_some() || self.query.is_some() || !self.unknown.is_empty()
    }

    fn reads(&self) -> bool {
        self.privileges.iter().any(|privilege| matches!(&**privilege, "read" | "all"))
    }
}

impl ReadRights {
    /// Reads the answer of `GET /_security/user/_privileges`.
    pub fn parse(text: &str) -> Option<Self> {
        let told: Privileges = serde_json::from_str(text).ok()?;
        let (mut whole, mut in_part) = (Vec::new(), Vec::new());
        for group in told.indices {
            if group.is_in_part() {
                in_part.extend(group.names);
            } else if group.reads() {
                whole.extend(group.names);
            }
        }
        Some(Self { whole: whole.into(), in_part: in_part.into() })
    }

    /// Whether everything may be read of what a request means by `names` (as in a URL, decoded). It is the
    /// name in the request that counts: rights on an alias are other rights than those on its index. False
    /// for patterns, and for names of the system's own indices.
    pub fn is_whole(&self, names: &str) -> bool {
        names.split(',').all(|name| {
            let is_plain = !name.is_empty()
                && !name.starts_with(['.', '_', '-', '+', '<'])
                && !name.contains(['*', '?', ':', '|']);
            is_plain
                && self.whole.iter().any(|pattern| covers(pattern, name) == Some(true))
                && !self.in_part.iter().any(|pattern| covers(pattern, name) != Some(false))
        })
    }
}

/// Whether a role's pattern covers a name; `None` where only Elasticsearch can tell.
fn covers(pattern: &str, name: &str) -> Option<bool> {
    if pattern.starts_with('/') || pattern.contains('\\') {
        // A regular expression of Lucene's, or something quoted.
        return None;
    }
    Some(matches(pattern.as_bytes(), name.as_bytes()))
}

/// `*` stands for any characters and `?` for one; in steps that are at most the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            // One character, which may be several bytes.
            Some(b'?') => {
                p += 1;
                n += 1;
                while name.get(n).is_some_and(|byte| byte & 0xC0 == 0x80) {
                    n += 1;
                }
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_keys_and_those_who_act_as_others_are_told_apart() {
        let user = r#"{"username":"ann","roles":["r"],"full_name":null,"email":null,"metadata":{"tenant":"a","level":3},
            "enabled":true,"authentication_realm":{"name":"native1","type":"native"},
            "lookup_realm":{"name":"file1","type":"file"},"authentication_type":"realm"}"#;
        let ann = Principal::parse(user).unwrap();
        assert_eq!((&*ann.username, &*ann.realm), ("ann", "file1"));
        assert_eq!(*ann.metadata, [("tenant".into(), "a".into())]);
        assert!(ann.api_key.is_none() && !ann.is_anonymous() && !ann.by_certificate);
        assert!(
            Principal::parse(&user.replace(r#""type":"native""#, r#""type":"pki""#)).unwrap().by_certificate
        );
        let key = user.replace("\"realm\"}", r#""api_key","api_key":{"id":"i","name":"n"}}"#);
        let key = Principal::parse(&key).unwrap();
        assert_eq!(*key.api_key.unwrap(), ApiKey { id: "i".into(), name: Some("n".into()) });
        assert!(Principal::parse(&user.replace("\"realm\"}", "\"anonymous\"}")).unwrap().is_anonymous());
    }

    #[test]
    fn what_is_no_principal_is_none() {
        let disabled = r#"{"username":"a","enabled":false,"authentication_realm":{"name":"r"},"authentication_type":"realm"}"#;
        for text in ["", "{}", "[]", r#"{"username":"a"}"#, disabled] {
            assert_eq!(Principal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn too_many_metadata_are_none_but_lists_and_long_texts_are_in_nobodys_way() {
        let kept = |metadata: Value| {
            let text = serde_json::json!({
                "username": "a", "metadata": metadata, "authentication_realm": {"name": "r"},
                "authentication_type": "realm",
            });
            Principal::parse(&text.to_string()).unwrap().metadata
        };
        let groups = vec!["CN=some group,DC=example,DC=org"; 1_000];
        let metadata = serde_json::json!({"ldap_groups": groups, "note": "y".repeat(2_000), "tenant": "a"});
        assert_eq!(*kept(metadata), [("tenant".into(), "a".into())]);
        let many: Value = (0..100).map(|n| (n.to_string(), Value::from("y".repeat(100)))).collect();
        assert!(kept(many).is_empty());
    }

    fn rights(groups: &str) -> ReadRights {
        let text = format!(
            r#"{{"cluster":[],"global":[],"indices":[{groups}],"applications":[],"run_as":[],"remote_indices":[]}}"#
        );
        ReadRights::parse(&text).unwrap()
    }

    fn group(names: &str, privileges: &str, more: &str) -> String {
        format!(r#"{{"names":[{names}],"privileges":[{privileges}]{more},"allow_restricted_indices":false}}"#)
    }

    const WITH_QUERY: &str = r#","query":["{\"term\":{\"a\":1}}"]"#;
    const WITH_FIELDS: &str = r#","field_security":[{"grant":["a"]}]"#;

    #[test]
    fn only_what_is_read_whole_under_the_name_used_is_whole() {
        let read = group(r#""a*","b""#, r#""read""#, "");
        for (groups, names, expected) in [
            (read.clone(), "a", true),
            (read.clone(), "a1,b", true),
            (read.clone(), "a1,c", false),
            (read.clone(), "", false),
            (read.clone(), "a*", false),
            (read.clone(), "_all", false),
            (read.clone(), "a,-b", false),
            (read.clone(), "cluster:a", false),
            (group(r#""*""#, r#""all""#, ""), "x", true),
            (group(r#""*""#, r#""all""#, ""), ".kibana", false),
            (group(r#""*""#, r#""write","monitor","view_index_metadata""#, ""), "x", false),
            (group(r#""a""#, r#""read""#, WITH_QUERY), "a", false),
            (group(r#""a""#, r#""read""#, WITH_FIELDS), "a", false),
            (group(r#""a""#, r#""read""#, r#","sealed":true"#), "a", false),
            // A right in part beside one to the whole: only Elasticsearch knows what they are together.
            (format!("{read},{}", group(r#""ab*""#, r#""read""#, WITH_QUERY)), "abc", false),
            (format!("{read},{}", group(r#""ab*""#, r#""read""#, WITH_QUERY)), "ac", true),
            (format!("{read},{}", group(r#""/x.*/""#, r#""write""#, WITH_FIELDS)), "a", false),
            (group(r#""/a.*/""#, r#""read""#, ""), "a", false),
            (group(r#""a\\*""#, r#""read""#, ""), "a*", false),
        ] {
            assert_eq!(rights(&groups).is_whole(names), expected, "{names} in {groups}");
        }
    }

    #[test]
    fn what_is_not_understood_gives_no_rights() {
        for text in ["", "{}", r#"{"indices":{}}"#, r#"{"indices":[{"names":"a","privileges":["read"]}]}"#] {
            assert_eq!(ReadRights::parse(text), None, "{text}");
        }
    }

    #[test]
    fn patterns_of_roles_know_stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?c", "aéc", true),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbc", false),
            ("a**", "a", true),
            ("", "", true),
            ("?", "", false),
        ] {
            assert_eq!(covers(pattern, name), Some(expected), "{pattern} {name}");
        }
    }
}
