//! The table of endpoints: what is done with each that Elasticsearch documents. The first row that fits
//! decides, and what fits none is refused.
//!
//! Placeholders say what a segment is: `{index}` and `{name}` hold names that must lie inside (of indices,
//! aliases, data streams; of templates too, which are one namespace for all tenants), `{context}` an id that
//! must have been handed out, `{tenant}` the tenant's own name, `{any}` what names nothing.

use Body::{
    Alias, Aliases, Analysis, Bulk, Context, Index, Mapping, Msearch, PointInTime, Query, Reindex, Rollover,
    Settings, Template, Unread,
};

/// What the body of a request is to an isolated tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing in it names an index: a document, or no body at all.
    Unread,
    /// Queries, which may look things up elsewhere.
    Query,
    /// The same, and only its point in time names what is searched.
    PointInTime,
    /// Lines of `_bulk`.
    Bulk,
    /// Lines of `_msearch`.
    Msearch,
    /// Ids of scrolls or points in time.
    Context,
    /// `_reindex`.
    Reindex,
    /// `_aliases`.
    Aliases,
    /// One alias.
    Alias,
    /// Mappings of an index.
    Mapping,
    /// Settings of an index.
    Settings,
    /// `_analyze`.
    Analysis,
    /// An index that is made: aliases, mappings and settings.
    Index,
    /// The same, made under the next name.
    Rollover,
    /// A template for such indices.
    Template,
}

/// What is done with requests of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Refused, because of what it is about.
    Refused(&'static str),
    /// Let through once names and body are judged; with the member of the response that hands out an id.
    Allowed(Body, Option<&'static str>),
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// After blanks; `*` for all.
    methods: &'static str,
    pub(super) path: &'static str,
    pub(super) rule: Rule,
}

/// What a segment of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Names,
    Context,
    Tenant,
    Free,
}

const fn yes(methods: &'static str, path: &'static str, body: Body) -> Endpoint {
    Endpoint { methods, path, rule: Rule::Allowed(body, None) }
}

const fn hands(methods: &'static str, path: &'static str, body: Body, member: &'static str) -> Endpoint {
    Endpoint { methods, path, rule: Rule::Allowed(body, Some(member)) }
}

const fn no(path: &'static str, why: &'static str) -> Endpoint {
    Endpoint { methods: "*", path, rule: Rule::Refused(why) }
}

const CLUSTER: &str = "it is about the whole cluster";
const LISTING: &str = "it lists what all tenants have; name your indices in the path";
const LANGUAGE: &str = "its indices are named in a language of its own";
const TEMPLATED: &str = "its query is made by a template";
const STORED: &str = "what it stores is shared by all tenants and acts on any index";
const NODES: &str = "it shows the nodes";

#[rustfmt::skip]
static TABLE: &[Endpoint] = &[
    // The node, as clients greet it.
    yes("GET HEAD", "/", Unread),
    yes("GET", "/_nodes/http", Unread),
    yes("GET", "/_nodes/_all/http", Unread),
    yes("GET", "/_security/_authenticate", Unread),
    yes("GET POST", "/_security/user/_has_privileges", Unread),
    yes("GET", "/_security/user/_privileges", Unread),

    // Ours.
    yes("GET", "/_ivf/_whoami", Unread),
    yes("GET", "/_ivf/_tenants/{tenant}", Unread),
    yes("GET", "/_ivf/_tenants/{tenant}/{any}", Unread),
    yes("POST", "/_ivf/_tenants/{tenant}/_requests", Unread),
    no("/_ivf/_tenants/**", "limits and quotas are set by others"),
    yes("GET", "/_ivf/{index}", Unread),
    yes("GET", "/_ivf/{index}/_stats", Unread),
    yes("POST", "/_ivf/{index}/_build/{any}", Unread),
    yes("POST", "/_ivf/{index}/_recall", Query),
    yes("GET POST", "/_ivf/{index}/_explain", Query),
    yes("PUT DELETE", "/_ivf/{index}/{any}", Unread),
    no("/_ivf", LISTING),

    // Documents.
    yes("POST", "/{index}/_doc", Unread),
    yes("GET HEAD PUT POST DELETE", "/{index}/_doc/{any}", Unread),
    yes("PUT POST", "/{index}/_create/{any}", Unread),
    yes("POST", "/{index}/_update/{any}", Unread),
    yes("GET HEAD", "/{index}/_source/{any}", Unread),
    yes("PUT POST", "/_bulk", Bulk),
    yes("PUT POST", "/{index}/_bulk", Bulk),
    yes("GET POST", "/_mget", Query),
    yes("GET POST", "/{index}/_mget", Query),
    yes("GET POST", "/{index}/_termvectors", Query),
    yes("GET POST", "/{index}/_termvectors/{any}", Query),
    yes("GET POST", "/_mtermvectors", Query),
    yes("GET POST", "/{index}/_mtermvectors", Query),
    yes("POST", "/{index}/_update_by_query", Query),
    yes("POST", "/{index}/_delete_by_query", Query),
    yes("POST", "/_reindex", Reindex),

    // Searches.
    no("/_search/template", TEMPLATED),
    no("/{index}/_search/template", TEMPLATED),
    no("/_msearch/template", TEMPLATED),
    no("/{index}/_msearch/template", TEMPLATED),
    no("/_render/**", TEMPLATED),
    hands("GET POST", "/_search", PointInTime, "pit_id"),
    hands("GET POST", "/{index}/_search", Query, "_scroll_id"),
    yes("GET POST", "/{index}/_knn_search", Query),
    yes("GET POST", "/_msearch", Msearch),
    yes("GET POST", "/{index}/_msearch", Msearch),
    hands("GET POST", "/_search/scroll", Context, "_scroll_id"),
    hands("GET POST", "/_search/scroll/{context}", Context, "_scroll_id"),
    yes("DELETE", "/_search/scroll", Context),
    yes("DELETE", "/_search/scroll/{context}", Context),
    hands("POST", "/{index}/_pit", Query, "id"),
    yes("DELETE", "/_pit", Context),
    hands("POST", "/{index}/_async_search", Query, "id"),
    yes("GET DELETE", "/_async_search/{context}", Unread),
    yes("GET", "/_async_search/status/{context}", Unread),
    hands("GET POST", "/{index}/_eql/search", Query, "id"),
    yes("GET", "/_eql/search/status/{context}", Unread),
    yes("GET DELETE", "/_eql/search/{context}", Unread),
    yes("GET POST", "/{index}/_count", Query),
    yes("GET POST", "/{index}/_explain/{any}", Query),
    yes("GET POST", "/{index}/_field_caps", Query),
    yes("GET POST", "/{index}/_mvt/{any}/{any}/{any}/{any}", Query),
    yes("GET POST", "/{index}/_terms_enum", Query),
    yes("GET POST", "/{index}/_validate/query", Query),
    no("/_count", LISTING),
    no("/_field_caps", LISTING),
    no("/_validate/query", LISTING),
    no("/_async_search", LISTING),
    no("/_rank_eval", TEMPLATED),
    no("/{index}/_rank_eval", TEMPLATED),
    no("/{index}/_search_shards", NODES),
    no("/_search_shards", NODES),
    no("/_query/**", LANGUAGE),
    no("/_sql/**", LANGUAGE),
    no("/_esql/**", LANGUAGE),
    no("/{index}/_graph/explore", "it answers with a query of its own"),
    no("/{index}/_rollup_search", "it searches what jobs of others wrote"),
    no("/{index}/_rollup/**", "it searches what jobs of others wrote"),
    no("/{index}/_fleet/**", CLUSTER),
    no("/_fleet/**", CLUSTER),

    // Indices.
    yes("PUT", "/{index}", Index),
    yes("GET HEAD DELETE", "/{index}", Unread),
    yes("GET", "/{index}/_mapping", Unread),
    yes("PUT POST", "/{index}/_mapping", Mapping),
    yes("GET", "/{index}/_mappings", Unread),
    yes("PUT POST", "/{index}/_mappings", Mapping),
    yes("GET", "/{index}/_mapping/field/{any}", Unread),
    yes("GET", "/{index}/_settings", Unread),
    yes("GET", "/{index}/_settings/{any}", Unread),
    yes("PUT", "/{index}/_settings", Settings),
    yes("GET HEAD", "/_alias/{name}", Unread),
    yes("GET", "/{index}/_alias", Unread),
    yes("GET HEAD DELETE", "/{index}/_alias/{name}", Unread),
    yes("PUT POST", "/{index}/_alias/{name}", Alias),
    yes("PUT POST", "/{index}/_aliases/{name}", Alias),
    yes("DELETE", "/{index}/_aliases/{name}", Unread),
    yes("POST", "/_aliases", Aliases),
    yes("POST", "/{index}/_rollover", Rollover),
    yes("POST", "/{index}/_rollover/{name}", Rollover),
    yes("PUT POST", "/{index}/_clone/{name}", Index),
    yes("PUT POST", "/{index}/_shrink/{name}", Index),
    yes("PUT POST", "/{index}/_split/{name}", Index),
    yes("PUT POST", "/_create_from/{index}/{name}", Index),
    yes("POST", "/{index}/_open", Unread),
    yes("POST", "/{index}/_close", Unread),
    yes("PUT", "/{index}/_block/{any}", Unread),
    yes("DELETE", "/{index}/_block/{any}", Unread),
    yes("GET POST", "/{index}/_refresh", Unread),
    yes("GET POST", "/{index}/_flush", Unread),
    yes("POST", "/{index}/_forcemerge", Unread),
    yes("POST", "/{index}/_cache/clear", Unread),
    yes("GET", "/{index}/_stats", Unread),
    yes("GET", "/{index}/_stats/{any}", Unread),
    yes("GET POST", "/{index}/_reload_search_analyzers", Unread),
    yes("GET", "/{index}/_segments", Unread),
    yes("GET", "/{index}/_recovery", Unread),
    yes("POST", "/{index}/_disk_usage", Unread),
    yes("GET", "/{index}/_field_usage_stats", Unread),
    yes("GET POST", "/{index}/_analyze", Analysis),
    yes("GET POST", "/_analyze", Analysis),
    yes("GET", "/_resolve/index/{name}", Unread),
    yes("GET", "/_cluster/health/{index}", Unread),
    no("/{index}/_shard_stores", NODES),
    no("/_shard_stores", NODES),
    no("/{index}/_ccr/**", CLUSTER),
    no("/{index}/_ilm/**", CLUSTER),
    no("/{index}/_lifecycle/**", CLUSTER),
    no("/{index}/_migration/**", CLUSTER),
    no("/{index}/_downsample/**", "it writes an index by a job of the cluster"),
    no("/{index}/_searchable_snapshots/**", CLUSTER),
    no("/{index}/_unfreeze", CLUSTER),
    no("/{index}/_data_stream/**", CLUSTER),
    no("/_resolve/cluster/**", CLUSTER),
    no("/_resolve/**", CLUSTER),

    // Data streams and templates.
    no("/_data_stream/_modify", "it puts any index behind the name of a data stream"),
    no("/_data_stream/_stats", LISTING),
    no("/_data_stream/_mappings", LISTING),
    no("/_data_stream/_migrate/**", CLUSTER),
    no("/_data_stream/_promote/**", CLUSTER),
    no("/_data_stream/lifecycle/**", LISTING),
    no("/_lifecycle/**", CLUSTER),
    yes("GET PUT DELETE", "/_data_stream/{name}", Unread),
    yes("GET", "/_data_stream/{name}/_stats", Unread),
    yes("GET PUT DELETE", "/_data_stream/{name}/_lifecycle", Unread),
    yes("GET PUT DELETE", "/_data_stream/{name}/_options", Unread),
    yes("GET", "/_data_stream/{name}/_settings", Unread),
    yes("PUT", "/_data_stream/{name}/_settings", Settings),
    yes("GET", "/_data_stream/{name}/_mappings", Unread),
    yes("PUT", "/_data_stream/{name}/_mappings", Mapping),
    no("/_index_template/_simulate/**", "it shows templates of others"),
    no("/_index_template/_simulate_index/**", "it shows templates of others"),
    yes("GET HEAD DELETE", "/_index_template/{name}", Unread),
    yes("PUT POST", "/_index_template/{name}", Template),
    yes("GET HEAD DELETE", "/_component_template/{name}", Unread),
    yes("PUT POST", "/_component_template/{name}", Template),
    yes("GET HEAD DELETE", "/_template/{name}", Unread),
    yes("PUT POST", "/_template/{name}", Template),

    // Tables for people.
    yes("GET", "/_cat/aliases/{name}", Unread),
    yes("GET", "/_cat/count/{index}", Unread),
    yes("GET", "/_cat/indices/{index}", Unread),
    yes("GET", "/_cat/recovery/{index}", Unread),
    yes("GET", "/_cat/segments/{index}", Unread),
    yes("GET", "/_cat/shards/{index}", Unread),
    no("/_cat/**", LISTING),

    // Listings of everything.
    no("/_data_stream", LISTING),
    no("/_index_template", LISTING),
    no("/_component_template", LISTING),
    no("/_template", LISTING),
    no("/_alias", LISTING),
    no("/_mapping/**", LISTING),
    no("/_mappings", LISTING),
    no("/_settings/**", LISTING),
    no("/_stats/**", LISTING),
    no("/_segments", LISTING),
    no("/_recovery", LISTING),
    no("/_refresh", LISTING),
    no("/_flush", LISTING),
    no("/_forcemerge", LISTING),
    no("/_cache/**", LISTING),

    // Everything else that is not about indices of one tenant.
    no("/_application/**", STORED),
    no("/_connector/**", STORED),
    no("/_enrich/**", STORED),
    no("/_inference/**", STORED),
    no("/_ingest/**", STORED),
    no("/_logstash/**", STORED),
    no("/_query_rules/**", STORED),
    no("/_scripts/**", STORED),
    no("/_synonyms/**", STORED),
    no("/_transform/**", STORED),
    no("/_watcher/**", STORED),
    no("/_rollup/**", STORED),
    no("/_ml/**", STORED),
    no("/_security/**", "it would make credentials that are bound to nothing"),
    no("/_snapshot/**", "a snapshot holds indices of all tenants"),
    no("/_searchable_snapshots/**", "a snapshot holds indices of all tenants"),
    no("/_slm/**", "a snapshot holds indices of all tenants"),
    no("/_tasks/**", "tasks belong to all tenants"),
    no("/_reindex/**", "tasks belong to all tenants"),
    no("/_delete_by_query/**", "tasks belong to all tenants"),
    no("/_update_by_query/**", "tasks belong to all tenants"),
    no("/_nodes/**", NODES),
    no("/_cluster/**", CLUSTER),
    no("/_autoscaling/**", CLUSTER),
    no("/_capabilities", CLUSTER),
    no("/_ccr/**", CLUSTER),
    no("/_dangling/**", CLUSTER),
    no("/_features/**", CLUSTER),
    no("/_health_report/**", CLUSTER),
    no("/_ilm/**", CLUSTER),
    no("/_info/**", CLUSTER),
    no("/_internal/**", CLUSTER),
    no("/_license/**", CLUSTER),
    no("/_metrics/**", CLUSTER),
    no("/_migration/**", CLUSTER),
    no("/_monitoring/**", CLUSTER),
    no("/_otlp/**", CLUSTER),
    no("/_profiling/**", CLUSTER),
    no("/_project/**", CLUSTER),
    no("/_remote/**", CLUSTER),
    no("/_remotestore/**", CLUSTER),
    no("/_script_context", CLUSTER),
    no("/_script_language", CLUSTER),
    no("/_ssl/**", CLUSTER),
    no("/_streams/**", CLUSTER),
    no("/_text_structure/**", CLUSTER),
    no("/_xpack/**", CLUSTER),
];

/// The row for a request; its path as it came, split.
pub(super) fn find(method: &str, path: &[&str]) -> Option<&'static Endpoint> {
    TABLE.iter().find(|row| row.takes(method) && fits(row.path, path))
}

/// What the segments of a row's path are.
pub(super) fn places(path: &'static str) -> impl Iterator<Item = Place> {
    parts(path).map(|part| match part {
        "{index}" | "{name}" => Place::Names,
        "{context}" => Place::Context,
        "{tenant}" => Place::Tenant,
        _ => Place::Free,
    })
}

impl Endpoint {
    fn takes(&self, method: &str) -> bool {
        self.methods == "*" || self.methods.split(' ').any(|word| word == method)
    }
}

fn parts(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn fits(row: &'static str, path: &[&str]) -> bool {
    let mut path = path.iter();
    for (at, part) in parts(row).enumerate() {
        if part == "**" {
            return true;
        }
        let Some(segment) = path.next() else { return false };
        let is_placeholder = part.starts_with('{');
        // An endpoint's word is no index; `_all` stands for indices.
        let is_name = at > 0 || !segment.starts_with('_') || *segment == "_all";
        if !(if is_placeholder { is_name } else { part == *segment }) {
            return false;
        }
    }
    path.next().is_none()
}
