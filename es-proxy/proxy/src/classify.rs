//! Which kind of request this is, by method, path and query alone. Everything not named here passes.

use std::borrow::Cow;

use http::Method;

use es_wire::{NodeListing, Params};
use es_wire::{Operation, segments};

use crate::intercept::write::Write;

/// Endpoints that take the body of a search and answer in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `_count`.
    Count,
    /// `_async_search`, where a search is handed in.
    AsyncSearch,
}

/// What a request is to us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `_search`: may be answered here. The names of the targets, none for all.
    Search { names: String },
    /// `_knn_search`, which needs to name its targets.
    KnnSearch { names: String },
    /// `_msearch`: each of its searches may be.
    Msearch { names: String },
    /// An endpoint whose knn parts can be restricted to what we find.
    Spliced { names: String, endpoint: Endpoint },
    /// Other endpoints that may hold a knn search; they pass, under the brake.
    OtherSearch { names: String },
    /// `PUT /{index}`: mappings are translated.
    CreateIndex,
    /// `POST /{alias}/_rollover`: the same.
    Rollover,
    /// `PUT /{target}/_mapping`: the same.
    PutMapping { target: String },
    /// `PUT /_data_stream/{name}/_mappings`: translated both ways.
    PutDataStreamMapping,
    /// A template with mappings: translated.
    PutTemplate,
    /// `POST /_index_template/_simulate`: translated both ways.
    Simulate,
    /// A response with mappings: translated back.
    ShowMapping,
    /// `_bulk` or a document API: looked at as it passes, and held where it acknowledges a refresh.
    Write(Write),
    /// Another write or `_refresh` whose response acknowledges a refresh: held until we have published it.
    Refreshes { target: Option<String> },
    /// Changes which indices exist or what they are called: the catalog is read again.
    IndexLife,
    /// A list of nodes: their HTTP addresses become those of their sidecars.
    Nodes(NodeListing),
    /// `/_ivf/…`: ours.
    Own { segments: Vec<String> },
    /// Everything else.
    Pass,
}

impl Route {
    /// The word for metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Search { .. } => "search",
            Self::KnnSearch { .. } => "knn_search",
            Self::Msearch { .. } => "msearch",
            Self::Spliced { endpoint: Endpoint::Count, .. } => "count",
            Self::Spliced { endpoint: Endpoint::AsyncSearch, .. } => "async_search",
            Self::OtherSearch { .. } => "other_search",
            Self::CreateIndex => "create_index",
            Self::Rollover => "rollover",
            Self::PutMapping { .. } => "put_mapping",
            Self::PutDataStreamMapping => "put_mapping",
            Self::PutTemplate => "put_template",
            Self::Simulate => "simulate_template",
            Self::ShowMapping => "show_mapping",
            Self::Write(_) => "write",
            Self::Refreshes { .. } => "refresh",
            Self::IndexLife => "index_life",
            Self::Nodes(_) => "nodes",
            Self::Own { .. } => "own",
            Self::Pass => "other",
        }
    }
}

/// Looks at the request line only. Paths that Elasticsearch would read in another way than we do
/// (`//`, dots) pass.
pub(crate) fn classify(method: &Method, raw_path: &str, query: Option<&str>) -> Route {
    let Some(segments) = segments(raw_path) else { return odd(method, raw_path, query) };
    // Elasticsearch compares its words with the path as it came: `%5Fsearch` is none of them. `_all` is a name.
    let words = segments.iter().map(|segment| match segment {
        Cow::Owned(text) if text.starts_with('_') && text != "_all" => "",
        _ => segment.as_ref(),
    });
    let parts: Vec<&str> = words.collect();
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    let is_write = matches!(*method, Method::PUT | Method::POST | Method::DELETE);

    match parts.as_slice() {
        ["_ivf", ..] => {
            Route::Own { segments: segments[1..].iter().map(|part| part.as_ref().to_owned()).collect() }
        }
        [rest @ .., kind @ ("_search" | "_msearch" | "_count")]
            if matches!(*method, Method::GET | Method::POST) && names(rest).is_some() =>
        {
            let names = names(rest).unwrap_or_default();
            match *kind {
                "_search" => Route::Search { names },
                "_msearch" => Route::Msearch { names },
                _ => Route::Spliced { names, endpoint: Endpoint::Count },
            }
        }
        [target, "_knn_search"] if matches!(*method, Method::GET | Method::POST) && is_indices(target) => {
            Route::KnnSearch { names: (*target).to_owned() }
        }
        [rest @ .., "_async_search"] if *method == Method::POST && names(rest).is_some() => {
            Route::Spliced { names: names(rest).unwrap_or_default(), endpoint: Endpoint::AsyncSearch }
        }
        [.., "_search" | "_msearch" | "_async_search" | "_knn_search" | "_count" | "_rank_eval"]
        | [.., "_search" | "_msearch", "template"]
            if matches!(*method, Method::GET | Method::POST) =>
        {
            Route::OtherSearch {
                names: parts
                    .first()
                    .filter(|part| is_target(part))
                    .map_or(String::new(), |part| (*part).to_owned()),
            }
        }
        [index] if is_target(index) => match *method {
            Method::PUT => Route::CreateIndex,
            Method::GET => Route::ShowMapping,
            Method::DELETE => Route::IndexLife,
            _ => Route::Pass,
        },
        ["_create_from", _, _] if is_write => Route::CreateIndex,
        [alias, "_rollover"] | [alias, "_rollover", _] if is_target(alias) && *method == Method::POST => {
            Route::Rollover
        }
        [target, "_mapping" | "_mappings"]
            if is_indices(target) && matches!(*method, Method::PUT | Method::POST) =>
        {
            Route::PutMapping { target: (*target).to_owned() }
        }
        ["_data_stream", _, "_mappings"] if *method == Method::PUT => Route::PutDataStreamMapping,
        ["_field_caps"] | [_, "_field_caps"] if matches!(*method, Method::GET | Method::POST) => {
            Route::ShowMapping
        }
        ["_cluster", "state", ..] if *method == Method::GET => Route::ShowMapping,
        ["_cat", "nodes"] if *method == Method::GET => Route::Nodes(NodeListing::Cat),
        ["_nodes", rest @ ..] if *method == Method::GET && tells_addresses(rest) => {
            Route::Nodes(NodeListing::Nodes)
        }
        ["_all" | "*"]
        | [_, "_mapping" | "_mappings"]
        | ["_mapping" | "_mappings"]
        | ["_mapping", "field", _]
        | [_, "_mapping", "field", _]
        | ["_data_stream", _, "_mappings"]
            if *method == Method::GET =>
        {
            Route::ShowMapping
        }
        ["_index_template", "_simulate" | "_simulate_index", ..] if *method == Method::POST => {
            Route::Simulate
        }
        ["_index_template" | "_component_template" | "_template", ..] => match *method {
            Method::PUT | Method::POST => Route::PutTemplate,
            Method::GET => Route::ShowMapping,
            _ => Route::Pass,
        },
        [.., "_refresh"] if matches!(*method, Method::GET | Method::POST) => Route::Refreshes {
            target: parts.first().filter(|part| is_target(part)).map(|part| (*part).to_owned()),
        },
        _ if write_operation(method, &parts).is_some() => {
            let operation = write_operation(method, &parts).flatten();
            Route::Write(Write {
                operation,
                target: parts.first().filter(|target| is_target(target)).map(|target| (*target).to_owned()),
                id: operation.and_then(|_| segments.get(2)).map(|id| id.as_ref().to_owned()),
                refreshes: asks_for_refresh(query),
            })
        }
        _ if is_write && !is_read && changes_indices(&parts) => Route::IndexLife,
        [first, ..] if is_write && asks_for_refresh(query) => {
            // A bulk may name any index in its lines, whatever stands in the path.
            let one = is_target(first) && !parts.contains(&"_bulk");
            Route::Refreshes { target: one.then(|| (*first).to_owned()) }
        }
        _ => Route::Pass,
    }
}

/// The route of an odd path. Elasticsearch's router takes an empty segment, or bytes that are no text, for the name of
/// an index: what is asked for there passes, but counts as what it is.
fn odd(method: &Method, raw_path: &str, query: Option<&str>) -> Route {
    let is_read = matches!(*method, Method::GET | Method::POST);
    let path = raw_path.trim_end_matches('/');
    let (before, last) = path.rsplit_once('/').unwrap_or_default();
    let is_template = last == "template" && (before.ends_with("/_search") || before.ends_with("/_msearch"));
    match last {
        "_search" | "_msearch" | "_async_search" | "_knn_search" | "_count" | "_rank_eval" if is_read => {
            Route::OtherSearch { names: String::new() }
        }
        "template" if is_read && is_template => Route::OtherSearch { names: String::new() },
        "_refresh" if is_read => Route::Refreshes { target: None },
        "_bulk" if matches!(*method, Method::PUT | Method::POST) => {
            let refreshes = asks_for_refresh(query);
            Route::Write(Write { operation: None, target: None, id: None, refreshes })
        }
        _ => Route::Pass,
    }
}

/// Whether this is `_bulk` (`Some(None)`) or a write of one document, and which.
fn write_operation(method: &Method, parts: &[&str]) -> Option<Option<Operation>> {
    let is_put_or_post = matches!(*method, Method::PUT | Method::POST);
    match parts {
        ["_bulk"] if is_put_or_post => Some(None),
        [target, "_bulk"] if is_put_or_post && is_target(target) => Some(None),
        // The escaped name of no index; each line may name its own.
        ["", "_bulk"] if is_put_or_post => Some(None),
        [target, "_doc" | "_create", _] if is_put_or_post && is_target(target) => {
            Some(Some(Operation::Index))
        }
        [target, "_doc"] if *method == Method::POST && is_target(target) => Some(Some(Operation::Index)),
        [target, "_update", _] if *method == Method::POST && is_target(target) => {
            Some(Some(Operation::Update))
        }
        [target, "_doc", _] if *method == Method::DELETE && is_target(target) => {
            Some(Some(Operation::Delete))
        }
        _ => None,
    }
}

/// A path segment that names indices rather than an endpoint. `_all` is an endpoint's word.
fn is_target(segment: &str) -> bool {
    !segment.starts_with('_') && !segment.is_empty()
}

/// The names of targets before the last segment of a path, none for all; `None` for another path.
fn names(before: &[&str]) -> Option<String> {
    match before {
        [] => Some(String::new()),
        [names] if is_indices(names) => Some((*names).to_owned()),
        _ => None,
    }
}

/// The same, or all of them.
fn is_indices(segment: &str) -> bool {
    is_target(segment) || segment == "_all"
}

fn changes_indices(parts: &[&str]) -> bool {
    matches!(
        parts,
        ["_aliases"]
            | [_, "_alias" | "_aliases", ..]
            | ["_alias", ..]
            | [_, "_close" | "_open" | "_shrink" | "_split" | "_clone" | "_settings", ..]
            | ["_data_stream", ..]
            | ["_all" | "*"]
            | [.., "_restore"]
    )
}

/// Whether `_nodes/…` may hold HTTP addresses: the info of nodes does, in all its forms; what is measured of
/// them, which monitoring asks for all the time, does not.
fn tells_addresses(after: &[&str]) -> bool {
    const OTHERS: [&str; 5] = ["stats", "usage", "hot_threads", "hotthreads", "reload_secure_settings"];
    after.len() <= 3 && !after.iter().any(|part| OTHERS.contains(part))
}

fn asks_for_refresh(query: Option<&str>) -> bool {
    query
        .and_then(Params::parse)
        .and_then(|params| params.get("refresh").map(|value| value != "false"))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(method: Method, uri: &str) -> Route {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
        classify(&method, path, query)
    }

    #[test]
    fn requests_find_their_route() {
        let search = |names: &str| Route::Search { names: names.into() };
        let msearch = |names: &str| Route::Msearch { names: names.into() };
        let refreshes = |target: Option<&str>| Route::Refreshes { target: target.map(str::to_owned) };
        let write = |operation, target: Option<&str>, id: Option<&str>, refreshes| {
            let (target, id) = (target.map(str::to_owned), id.map(str::to_owned));
            Route::Write(Write { operation, target, id, refreshes })
        };
        let (index, update, delete) =
            (Some(Operation::Index), Some(Operation::Update), Some(Operation::Delete));
        for (method, uri, route) in [
            (Method::POST, "/a/_search", search("a")),
            (Method::GET, "/a/_search/", search("a")),
            (Method::POST, "/a%2Cb/_search", search("a,b")),
            (Method::POST, "/_search", search("")),
            (Method::GET, "/_all/_search", search("_all")),
            (Method::GET, "/_msearch", msearch("")),
            (Method::POST, "/a/_msearch", msearch("a")),
            (Method::POST, "/a/_search/template", Route::OtherSearch { names: "a".into() }),
            (Method::POST, "/a/_count", Route::Spliced { names: "a".into(), endpoint: Endpoint::Count }),
            (
                Method::POST,
                "/_async_search",
                Route::Spliced { names: String::new(), endpoint: Endpoint::AsyncSearch },
            ),
            (Method::GET, "/a,b/_knn_search", Route::KnnSearch { names: "a,b".into() }),
            (Method::GET, "/_async_search/id", Route::Pass),
            (Method::DELETE, "/a/_search", Route::Pass),
            (Method::PUT, "/a", Route::CreateIndex),
            (Method::GET, "/a", Route::ShowMapping),
            (Method::GET, "/_all", Route::ShowMapping),
            (Method::GET, "/a,b/_mapping", Route::ShowMapping),
            (Method::GET, "/_mapping/field/v", Route::ShowMapping),
            (Method::GET, "/_cluster/state/metadata/a", Route::ShowMapping),
            (Method::POST, "/a/_field_caps?fields=*", Route::ShowMapping),
            (Method::HEAD, "/a", Route::Pass),
            (Method::DELETE, "/a", Route::IndexLife),
            (Method::PUT, "/a/_mapping", Route::PutMapping { target: "a".into() }),
            (Method::PUT, "/_index_template/t", Route::PutTemplate),
            (Method::PUT, "/_all/_mapping", Route::PutMapping { target: "_all".into() }),
            (Method::POST, "/a/_mappings", Route::PutMapping { target: "a".into() }),
            (Method::POST, "/a/_rollover", Route::Rollover),
            (Method::POST, "/a/_rollover/b?dry_run=true", Route::Rollover),
            (Method::PUT, "/_data_stream/a/_mappings", Route::PutDataStreamMapping),
            (Method::POST, "/_create_from/a/b", Route::CreateIndex),
            (Method::POST, "/_index_template/_simulate", Route::Simulate),
            (Method::POST, "/_index_template/_simulate/t", Route::Simulate),
            (Method::POST, "/_index_template/_simulate_index/i", Route::Simulate),
            (Method::PUT, "/_component_template/t", Route::PutTemplate),
            (Method::POST, "/_template/t", Route::PutTemplate),
            (Method::GET, "/_template/t", Route::ShowMapping),
            (Method::GET, "/_mappings", Route::ShowMapping),
            (Method::GET, "/a/_mappings", Route::ShowMapping),
            (Method::GET, "/_index_template/t", Route::ShowMapping),
            (Method::POST, "/_refresh", refreshes(None)),
            (Method::POST, "/a/_refresh", refreshes(Some("a"))),
            (Method::PUT, "/a/_doc/1?refresh", write(index, Some("a"), Some("1"), true)),
            (Method::POST, "/a/_doc/b%2Fc?refresh=false", write(index, Some("a"), Some("b/c"), false)),
            (Method::POST, "/a/_doc", write(index, Some("a"), None, false)),
            (Method::PUT, "/a/_create/1/", write(index, Some("a"), Some("1"), false)),
            (Method::POST, "/a/_update/1", write(update, Some("a"), Some("1"), false)),
            (Method::DELETE, "/a/_doc/1", write(delete, Some("a"), Some("1"), false)),
            (Method::PUT, "/a/_doc/%5Fsearch", write(index, Some("a"), Some("_search"), false)),
            (Method::GET, "/a/_doc/1", Route::Pass),
            (Method::PUT, "/a/_update/1?refresh", refreshes(Some("a"))),
            (Method::POST, "/a/_bulk?refresh=wait_for", write(None, Some("a"), None, true)),
            (Method::PUT, "/_bulk", write(None, None, None, false)),
            (Method::GET, "/_bulk", Route::Pass),
            (Method::POST, "/a/_update_by_query?refresh=true", refreshes(Some("a"))),
            (Method::POST, "/_aliases", Route::IndexLife),
            (Method::POST, "/a/_close", Route::IndexLife),
            (Method::GET, "/_ivf/a/_stats", Route::Own { segments: vec!["a".into(), "_stats".into()] }),
            (Method::GET, "/_nodes", Route::Nodes(NodeListing::Nodes)),
            (Method::GET, "/_nodes/_all/http/?pretty", Route::Nodes(NodeListing::Nodes)),
            (Method::GET, "/_nodes/_local/info/http", Route::Nodes(NodeListing::Nodes)),
            (Method::GET, "/_cat/nodes?h=http", Route::Nodes(NodeListing::Cat)),
            (Method::GET, "/_nodes/stats/http", Route::Pass),
            (Method::GET, "/_nodes/n1/hot_threads", Route::Pass),
            (Method::HEAD, "/_nodes", Route::Pass),
            (Method::GET, "/", Route::Pass),
            // Elasticsearch has no such endpoints.
            (Method::POST, "/a/%5Fsearch", Route::Pass),
            (Method::POST, "/a/_searc%68", Route::Pass),
            (Method::POST, "/a/_knn%5Fsearch", Route::Pass),
            (Method::GET, "/%5fivf/a/_stats", Route::Pass),
            (Method::PUT, "/a/%5Fmapping", Route::Pass),
            (Method::POST, "/%61/_search", search("a")),
            (Method::GET, "/%5Fall/_search", search("_all")),
            (Method::POST, "//a/_doc", Route::Pass),
            // Of all indices, and of one whose name is no text.
            (Method::POST, "//_search", Route::OtherSearch { names: String::new() }),
            (Method::GET, "/a,%ff/_msearch/", Route::OtherSearch { names: String::new() }),
            (Method::GET, "//_msearch/template", Route::OtherSearch { names: String::new() }),
            (Method::POST, "//_bulk?refresh", write(None, None, None, true)),
            (Method::POST, "/%5Fx/_bulk", write(None, None, None, false)),
            (Method::POST, "//_refresh", refreshes(None)),
            (Method::GET, "/_cluster/health", Route::Pass),
        ] {
            assert_eq!(of(method.clone(), uri), route, "{method} {uri}");
        }
    }

    proptest! {
        /// Whatever stands in a request line finds a route, and a path that is not spelled plainly no
        /// other one than its plain spelling has.
        #[test]
        fn any_request_line_finds_a_route(
            method in "[A-Za-z]{1,8}",
            parts in prop::collection::vec("(_search|_bulk|_doc|_mapping|_ivf|_all|%2e%2e|%2F|%zz|%00|;a=b|é|\\.\\.|[a-z*,]{0,4}|[ -~é]{0,6})", 0..6),
            query in prop::option::of("[ -~]{0,30}"),
        ) {
            let path = format!("/{}", parts.join("/"));
            let method: Method = method.parse().unwrap();
            let route = classify(&method, &path, query.as_deref());
            if path.contains("//") && !path.trim_end_matches('/').is_empty() && path.trim_end_matches('/').contains("//") {
                let of_all = Route::OtherSearch { names: String::new() };
                let passes = route == Route::Pass || route == of_all || matches!(
                    route,
                    Route::Refreshes { target: None } | Route::Write(Write { operation: None, target: None, .. })
                );
                prop_assert!(passes, "{:?}", route);
            }
        }
    }
}
