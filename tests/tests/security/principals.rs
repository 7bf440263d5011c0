//! Who asks, and what Elasticsearch lets them see.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use outrigger_tests::Api;
use serde_json::{Value, json};

/// How much of the index `docs` a principal is known to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// All, and his privileges say so: he is answered without Elasticsearch.
    All,
    /// A part, or nobody but Elasticsearch knows what: every hit is confirmed in his name.
    Unclear,
    /// Nothing.
    Nothing,
}

/// Every principal, with what he sees of `docs`, and of it by its alias `shelf`.
pub(crate) const PRINCIPALS: [(&str, Sees, Sees); 21] = [
    ("elastic", Sees::All, Sees::All),
    ("ann", Sees::All, Sees::All),
    ("red_only", Sees::Unclear, Sees::Unclear),
    ("no_secrets", Sees::Unclear, Sees::Unclear),
    // What he may not see he may not search either.
    ("no_vectors", Sees::Unclear, Sees::Unclear),
    // Two roles, one of which sees a part only: together they see all, but that is Elasticsearch's to say.
    ("ann_and_red_only", Sees::Unclear, Sees::Unclear),
    ("by_alias", Sees::Nothing, Sees::All),
    // All by the alias, a part by the index's own name.
    ("more_by_alias", Sees::Unclear, Sees::All),
    ("by_expression", Sees::Unclear, Sees::Unclear),
    ("writer", Sees::Nothing, Sees::Nothing),
    ("watcher", Sees::Nothing, Sees::Nothing),
    ("keeper", Sees::All, Sees::All),
    ("nobody", Sees::Nothing, Sees::Nothing),
    ("sidecar", Sees::All, Sees::All),
    ("key_of_ann", Sees::Unclear, Sees::Unclear),
    ("red_key_of_ann", Sees::Unclear, Sees::Unclear),
    ("tag_key_of_ann", Sees::Unclear, Sees::Unclear),
    ("token_of_ann", Sees::Unclear, Sees::Unclear),
    ("ann_by_other", Sees::Unclear, Sees::Unclear),
    ("wrong_password", Sees::Nothing, Sees::Nothing),
    ("no_credentials", Sees::Nothing, Sees::Nothing),
];

const USERS: [(&str, &[&str]); 15] = [
    ("elastic", &["superuser"]),
    ("ann", &["reader"]),
    ("red_only", &["red"]),
    ("no_secrets", &["open"]),
    ("no_vectors", &["blind"]),
    ("ann_and_red_only", &["reader", "red"]),
    ("by_alias", &["shelf"]),
    ("more_by_alias", &["shelf", "red_docs"]),
    ("by_expression", &["expression"]),
    ("writer", &["writer"]),
    ("watcher", &["watcher"]),
    ("keeper", &["keeper"]),
    ("nobody", &[]),
    ("sidecar", &["sidecar"]),
    ("other", &["runner"]),
];

pub(crate) fn password(user: &str) -> &'static str {
    match user {
        "elastic" => "elastic-password",
        "sidecar" => "sidecar-password",
        _ => "password",
    }
}

/// What the node is started with.
pub(crate) fn security() -> Value {
    let user = |(name, roles): &(&str, &[&str])| {
        ((*name).to_owned(), json!({"password": password(name), "roles": roles}))
    };
    let users: serde_json::Map<String, Value> = USERS.iter().map(user).collect();
    let on = |names: &[&str], privileges: &[&str]| json!({"indices": [{"names": names, "privileges": privileges}]});
    let red = json!({"term": {"tag": "red"}});
    let reads_red =
        |names: &[&str]| json!({"indices": [{"names": names, "privileges": ["read"], "query": red}]});
    json!({
        "users": users,
        "roles": {
            "reader": on(&["docs", "shelf", "red", "other"], &["read"]),
            "red": reads_red(&["docs", "shelf", "red", "other"]),
            "red_docs": reads_red(&["docs"]),
            "open": {"indices": [{"names": ["docs", "shelf", "red", "other"], "privileges": ["read"],
                "field_security": {"grant": ["*"], "except": ["secret"]}}]},
            "blind": {"indices": [{"names": ["docs", "shelf", "red", "other"], "privileges": ["read"],
                "field_security": {"grant": ["*"], "except": ["v"]}}]},
            "shelf": on(&["shelf"], &["read"]),
            "expression": on(&["/(docs|shelf|red|other)/"], &["read"]),
            "writer": on(&["docs", "other"], &["write", "create_index"]),
            "watcher": {"cluster": ["monitor"], "indices": [{"names": ["*"], "privileges": ["monitor", "view_index_metadata"]}]},
            "keeper": on(&["*"], &["read", "manage", "create_index"]),
            "runner": {"run_as": ["ann"]},
            "sidecar": minimal_role(),
        },
        "api_keys": {
            "k1": {"key": "s1", "name": "whole", "owner": "ann"},
            "k2": {"key": "s2", "name": "red", "owner": "ann", "role_descriptors": {"r": reads_red(&["*"])}},
            "k3": {"key": "s3", "name": "tag", "owner": "ann", "role_descriptors": {"r": {"indices": [
                {"names": ["*"], "privileges": ["read"], "field_security": {"grant": ["tag"]}}]}}},
        },
        "tokens": {"t1": "ann"},
    })
}

/// The role of the sidecar's own credentials, as `es-proxy/SECURITY.md` has it: feed, catalog and audit,
/// and the mappings of our fields where somebody took our key out of them.
pub(crate) fn minimal_role() -> Value {
    let text = include_str!("../../../es-proxy/SECURITY.md");
    let section = text.split("### Own credentials").nth(1);
    let block = section.and_then(|section| section.split("```json").nth(1));
    let role = block.and_then(|rest| rest.split("```").next());
    serde_json::from_str(role.expect("the page has the role")).expect("it is JSON")
}

/// The same calls as a principal.
pub(crate) fn calling(api: &Api, principal: &str) -> Api {
    let key = |pair: &str| api.with_header("authorization", &format!("ApiKey {}", STANDARD.encode(pair)));
    match principal {
        "no_credentials" => api.clone(),
        "wrong_password" => api.as_user("ann", "wrong"),
        "key_of_ann" => key("k1:s1"),
        "red_key_of_ann" => key("k2:s2"),
        "tag_key_of_ann" => key("k3:s3"),
        "token_of_ann" => api.with_header("authorization", "Bearer t1"),
        "ann_by_other" => {
            api.as_user("other", password("other")).with_header("es-security-runas-user", "ann")
        }
        user => api.as_user(user, password(user)),
    }
}
