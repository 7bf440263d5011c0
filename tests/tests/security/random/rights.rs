//! Random users, roles, keys and tokens, and everybody who calls with them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_tests::Api;
use serde_json::{Map, Value, json};

use super::Draw;
use crate::principals::{minimal_role, password};

/// What roles are written for: names, aliases, patterns that cover both or neither.
const NAMES: [&str; 24] = [
    "docs",
    "docs",
    "docs",
    "docs",
    "other",
    "other",
    "docs-all",
    "other-all",
    "both",
    "red",
    "road",
    "*",
    "*",
    "do*",
    "d?cs",
    "docs*",
    "*r",
    "*-all",
    "/do.*/",
    "/(docs|both)/",
    "oth*",
    "nothing",
    "re*",
    "*",
];
const PRIVILEGES: [&[&str]; 8] = [
    &["read"],
    &["read"],
    &["read"],
    &["all"],
    &["read", "view_index_metadata"],
    &["write", "monitor"],
    &["indices:data/read/search"],
    &["manage"],
];

/// Who calls, by the headers that say so.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Principal {
    pub(super) fn calling(&self, api: &Api) -> Api {
        self.headers.iter().fold(api.clone(), |api, (name, value)| api.with_header(name, value))
    }
}

/// What Elasticsearch's security is told, and who may call then.
pub(super) struct Rights {
    pub(super) file: Value,
    pub(super) principals: Vec<Principal>,
}

fn query(draw: &mut Draw) -> Value {
    draw.pick(&[
        json!({"term": {"tag": "red"}}),
        json!({"range": {"n": {"gte": 20}}}),
        json!({"bool": {"must_not": {"term": {"secret": "s1"}}}}),
        json!({"terms": {"tag": ["blue", "green"]}}),
        json!({"match_all": {}}),
        json!({"term": {"tag": "none"}}),
    ])
}

fn fields(draw: &mut Draw) -> Value {
    draw.pick(&[
        json!({"grant": ["*"], "except": ["secret"]}),
        json!({"grant": ["*"], "except": ["v"]}),
        json!({"grant": ["*"], "except": ["parts.*"]}),
        json!({"grant": ["*"], "except": ["parts.u", "n"]}),
        json!({"grant": ["v", "tag"]}),
        json!({"grant": ["tag", "text"]}),
        json!({"grant": ["*"]}),
    ])
}

fn role(draw: &mut Draw) -> Value {
    let groups = draw.between(1, 2);
    let group = |_| {
        let mut group = json!({"names": draw.some(&NAMES, 3), "privileges": draw.pick(&PRIVILEGES)});
        if draw.chance(0.2) {
            group["query"] = query(draw);
        }
        if draw.chance(0.3) {
            group["field_security"] = fields(draw);
        }
        group
    };
    json!({"indices": (0..groups).map(group).collect::<Vec<_>>()})
}

fn basic(user: &str, password: &str) -> (&'static str, String) {
    ("authorization", format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

impl Rights {
    pub(super) fn draw(draw: &mut Draw) -> Self {
        let mut roles = Map::new();
        for n in 0..10 {
            roles.insert(format!("r{n}"), role(draw));
        }
        // One that sees all, so that much is answered without Elasticsearch.
        let whole = ["docs", "other", "docs-all", "other-all", "both", "red", "road"];
        roles.insert("whole".into(), json!({"indices": [{"names": whole, "privileges": ["read"]}]}));
        roles.insert("runner".into(), json!({"run_as": ["u1", "u2", "u3"]}));
        roles.insert("sidecar".into(), minimal_role());
        let names: Vec<String> = (0..10).map(|n| format!("r{n}")).collect();
        let mut users = Map::new();
        let mut principals = Vec::new();
        let mut calling = |headers: Vec<(&'static str, String)>| principals.push(Principal { headers });
        for n in 0..12 {
            let (user, mut roles) = (format!("u{n}"), draw.some(&names, 3));
            if draw.chance(0.2) {
                roles.push("runner".into());
            }
            if draw.chance(0.4) {
                roles = vec!["whole".into()];
                roles.extend(draw.chance(0.3).then(|| draw.pick(&names)));
            }
            let is_enabled = !draw.chance(0.05);
            users
                .insert(user.clone(), json!({"password": "password", "roles": roles, "enabled": is_enabled}));
            calling(vec![basic(&user, "password")]);
            // The same user, said in another way, and another one by the same password.
            let (name, value) = basic(&user, "password");
            calling(vec![(name, value.replace("Basic", "bAsIc"))]);
            calling(vec![
                basic(&user, "password"),
                ("es-security-runas-user", draw.pick(&["u1", "u2", "u9"]).into()),
            ]);
        }
        for (user, role) in [("elastic", "superuser"), ("sidecar", "sidecar")] {
            users.insert(user.into(), json!({"password": password(user), "roles": [role]}));
        }
        let (mut keys, mut tokens) = (Map::new(), Map::new());
        for n in 0..8 {
            let owner = format!("u{}", draw.between(0, 11));
            let mut key = json!({"key": "secret", "name": "a key", "owner": owner});
            if draw.chance(0.7) {
                key["role_descriptors"] = json!({"a": role(draw)});
            }
            if draw.chance(0.3) {
                key["role_descriptors"]["b"] = role(draw);
            }
            keys.insert(format!("k{n}"), key);
            calling(vec![("authorization", format!("ApiKey {}", STANDARD.encode(format!("k{n}:secret"))))]);
        }
        for n in 0..3 {
            tokens.insert(format!("t{n}"), format!("u{}", draw.between(0, 11)).into());
            calling(vec![("authorization", format!("Bearer t{n}"))]);
        }
        calling(vec![basic("elastic", password("elastic"))]);
        calling(vec![basic("elastic", password("elastic")), ("es-security-runas-user", "u1".into())]);
        calling(vec![
            basic("elastic", password("elastic")),
            ("es-secondary-authorization", basic("u1", "password").1),
        ]);
        calling(vec![basic("u1", "wrong")]);
        calling(vec![basic("nobody", "password")]);
        calling(vec![("authorization", "Negotiate abc".into())]);
        calling(Vec::new());
        let file = json!({"users": users, "roles": roles, "api_keys": keys, "tokens": tokens});
        Self { file, principals }
    }
}
