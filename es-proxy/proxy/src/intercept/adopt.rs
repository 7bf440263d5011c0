//! Adopting and releasing a field, and the list of those that are ours.
//!
//! Both are a mapping update that Elasticsearch makes under the caller's own credentials, so who may change the
//! mapping may do this, and nobody else. An adopted field keeps the index type that it names.

use std::collections::{BTreeMap, HashSet};

use es_wire::{Catalog, KeyChange, MAX_STATE_DEPTH, Origin, Resolved, change_key, readable};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::intercept::own::{answer, ask, encoded, refuse, text_of};
use crate::intercept::privilege::{self, Needs};
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::respond;
use crate::telemetry::Served;

/// `PUT /_ivf/{index}/{field}`, with options as `index_options` has them or without a body.
pub(crate) async fn adopt(worker: &Worker, index: &str, field: &str, request: ClientRequest) -> Reply {
    let (parts, options) = match text_of(worker, request).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    let options = Some(options.trim_ascii()).filter(|options| !options.is_empty());
    change(worker, &parts, index, field, KeyChange::Adopt(options)).await
}

/// `DELETE /_ivf/{index}/{field}`.
pub(crate) async fn release(worker: &Worker, index: &str, field: &str, request: ClientRequest) -> Reply {
    let catalog = worker.shared.cluster.catalog();
    let by_pattern = match catalog.resolve(index) {
        Resolved::One(info) => info.fields.get(field).is_some_and(|field| field.origin == Origin::Pattern),
        _ => false,
    };
    change(worker, &request.parts, index, field, KeyChange::Release { by_pattern }).await
}

async fn change(worker: &Worker, parts: &Parts, index: &str, field: &str, change: KeyChange<'_>) -> Reply {
    let node = worker.shared.cluster.node();
    let Some(caps) = node.as_ref().and_then(|node| node.capabilities.as_ref()) else {
        let reason = "the version of Elasticsearch is not known";
        return refuse(parts, StatusCode::SERVICE_UNAVAILABLE, "status_exception", reason);
    };
    let mapping = match ask(worker, parts, Method::GET, &format!("/{}/_mapping", encoded(index)), None).await
    {
        Ok(mapping) => mapping,
        Err(reply) => return reply,
    };
    let Some(concrete) = the_only_index(&mapping) else {
        let reason = format!("[{index}] is not one index; fields are adopted one index at a time");
        return refuse(parts, StatusCode::BAD_REQUEST, "illegal_argument_exception", &reason);
    };
    // Also where nothing will have to be changed, or cannot be.
    let needs = Needs::Index { name: &concrete, privilege: "manage", action: "indices:admin/mapping/put" };
    if let Err(refusal) = privilege::check(worker, parts, needs).await {
        return refusal;
    }
    let update = match change_key(&mapping, field, change, caps) {
        Ok(update) => update,
        Err(error) if error.kind == "resource_not_found_exception" => {
            let reason = format!("{} in index [{concrete}]", error.reason);
            return refuse(parts, StatusCode::NOT_FOUND, error.kind, &reason);
        }
        Err(error) => {
            let response = respond::error_with_body(&parts.headers, StatusCode::BAD_REQUEST, error.body());
            return (response, Served::new("own", "bad_mapping"));
        }
    };
    if let Some(update) = update {
        let path = format!("/{}/_mapping", encoded(&concrete));
        if let Err(reply) = ask(worker, parts, Method::PUT, &path, Some(update)).await {
            return reply;
        }
    }
    worker.read_catalog_again().await;
    answer(parts, json!({"acknowledged": true}).to_string(), "changed")
}

/// `GET /_ivf` and `GET /_ivf/{index}`: the fields that are ours, as far as the caller may see them in mappings.
pub(crate) async fn list(worker: &Worker, target: &str, request: &ClientRequest) -> Reply {
    let parts = &request.parts;
    // Of all fields only vectors have such a member. What people note in `_meta` may be of any depth.
    let filter = "*.mappings.properties.**.dims";
    let path = format!("/{}/_mapping?expand_wildcards=all&filter_path={filter}", encoded(target));
    let mappings = match ask(worker, parts, Method::GET, &path, None).await {
        Ok(mappings) => mappings,
        Err(reply) => return reply,
    };
    let mappings: BTreeMap<String, Value> =
        serde_json::from_str(&readable(&mappings, MAX_STATE_DEPTH)).unwrap_or_default();
    let catalog = worker.shared.cluster.catalog();
    let shown = |(name, mapping): (&String, &Value)| {
        let mut visible = HashSet::new();
        collect_vectors("", &mapping["mappings"], &mut visible);
        Some((name.clone(), fields_of(worker, &catalog, name, &visible)?))
    };
    let indices: Map<String, Value> = mappings.iter().filter_map(shown).collect();
    answer(parts, json!({"indices": indices}).to_string(), "list")
}

/// The paths of the fields below an object that have `dims`.
fn collect_vectors(parent: &str, object: &Value, found: &mut HashSet<String>) {
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        collect_vectors(&path, field, found);
        if field["dims"].is_number() {
            found.insert(path);
        }
    }
}

fn fields_of(worker: &Worker, catalog: &Catalog, name: &str, visible: &HashSet<String>) -> Option<Value> {
    let index = catalog.index(name)?;
    let field = |(path, field): (&std::sync::Arc<str>, &es_wire::VectorField)| {
        let options: Value = serde_json::from_str(&field.shown_options()).unwrap_or_default();
        let described = json!({
            "state": worker.shared.cluster.field_state(index, path),
            "mode": field.mode().name(),
            "adopted_by": field.origin.name(),
            "element_type": field.spec.element.name(),
            "dims": field.spec.dims,
            "similarity": field.similarity.name(),
            "options": options,
        });
        (path.to_string(), described)
    };
    let shown = index.fields.iter().filter(|(path, _)| visible.contains(&***path));
    let fields: Map<String, Value> = shown.map(field).collect();
    (!fields.is_empty()).then(|| json!({"uuid": &*index.uuid, "fields": fields}))
}

fn the_only_index(mapping: &str) -> Option<String> {
    let indices: Map<String, Value> = serde_json::from_str(mapping).ok()?;
    let mut names = indices.into_iter().map(|(name, _)| name);
    names.next().filter(|_| names.next().is_none())
}
