//! The same searches at other endpoints, on other targets, and in several requests.

use serde_json::json;

use super::Since;
use super::draw::Draw;
use super::request::{Around, Body, Request};
use super::shapes::{SHAPES, search};
use crate::Elasticsearch;

/// A row of the table: a way to reach a search.
pub(super) struct Endpoint {
    /// As the page calls it.
    pub(super) name: &'static str,
    pub(super) since: Since,
    /// Before which it exists.
    pub(super) until: Since,
    pub(super) draw: fn(&mut Draw<'_>) -> Request,
}

const fn endpoint(name: &'static str, since: Since, draw: fn(&mut Draw<'_>) -> Request) -> Endpoint {
    Endpoint { name, since, until: (99, 0), draw }
}

/// See the head of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    endpoint("point in time", (8, 4), |draw| {
        let mut request = changeable(draw);
        request.path = "/_search".to_owned();
        request.around = Around::Pit;
        let object = request.object().expect("an object");
        object["pit"] = json!({"id": "{pit}", "keep_alive": "1m"});
        request
    }),
    endpoint("`scroll`", (8, 4), |draw| {
        let mut request = changeable(draw).with("scroll", "1m");
        request.around = Around::Scroll;
        request
    }),
    endpoint("`search_after`", (8, 4), |draw| {
        let mut request = search("knn", draw.knn_section());
        request.around = Around::NextPage;
        let size = draw.between(1, 8);
        let object = request.object().expect("an object");
        object["size"] = json!(size);
        object["sort"] = draw.pick(&[json!([{"n": "asc"}]), json!(["_score", {"n": "desc"}])]);
        request
    }),
    endpoint("`_msearch`", (8, 4), msearch),
    endpoint("an alias", (8, 4), |draw| on(draw, "/{index}-alias/_search")),
    endpoint("an alias with a filter", (8, 4), |draw| on(draw, "/{index}-some/_search")),
    endpoint("an alias with routing", (8, 4), |draw| on(draw, "/{index}-routed/_search")),
    endpoint("a pattern", (8, 4), |draw| on(draw, "/{index}*/_search")),
    endpoint("an index named twice", (8, 4), |draw| on(draw, "/{index},{index}/_search")),
    endpoint("an index and its alias", (8, 4), |draw| on(draw, "/{index},{index}-some/_search")),
    endpoint("an index that is missing", (8, 4), |draw| on(draw, "/{index}-absent/_search")),
    endpoint("one that is missing beside one that is not", (8, 4), |draw| {
        on(draw, "/{index},{index}-absent/_search").with("ignore_unavailable", "true")
    }),
    endpoint("a pattern that nothing matches", (8, 4), |draw| on(draw, "/{index}-absent*/_search")),
    endpoint("`_count`", (8, 12), |draw| {
        let mut query = draw.mixed_query();
        if let Some(knn) = query.get_mut("knn") {
            knn["k"] = json!(draw.between(1, 20));
        }
        Request::to("/{index}/_count", Body::Json(json!({"query": query})))
    }),
    endpoint("`_count` with a top-level `knn`", (8, 4), |draw| {
        Request::to("/{index}/_count", Body::Json(json!({"knn": draw.knn_section()})))
    }),
    endpoint("`_explain`", (8, 12), |draw| {
        let body = Body::Json(json!({"query": draw.knn_query()}));
        Request::to(&format!("/{{index}}/_explain/{}", draw.id()), body)
    }),
    endpoint("`_validate/query`", (8, 12), |draw| {
        Request::to("/{index}/_validate/query", Body::Json(json!({"query": draw.mixed_query()})))
    }),
    Endpoint {
        name: "`_knn_search`",
        since: (8, 4),
        until: (9, 0),
        draw: |draw| {
            let mut knn = draw.knn_section();
            for key in ["boost", "_name", "similarity", "rescore_vector"] {
                knn.as_object_mut().expect("an object").remove(key);
            }
            Request::to("/{index}/_knn_search", Body::Json(json!({"knn": knn, "_source": ["n"]})))
        },
    },
];

/// Any search of the version that may be changed.
fn changeable(draw: &mut Draw<'_>) -> Request {
    loop {
        let request = some_search(draw);
        if !request.alone {
            return request;
        }
    }
}

/// Any search of the version.
pub(super) fn some_search(draw: &mut Draw<'_>) -> Request {
    let shapes: Vec<_> = SHAPES
        .iter()
        .filter(|shape| Elasticsearch::version_at_least(shape.since.0, shape.since.1))
        .flat_map(|shape| std::iter::repeat_n(shape, shape.weight))
        .collect();
    let shape = draw.pick(&shapes);
    let mut request = (shape.draw)(draw);
    request.made_of.push(shape.name);
    request
}

fn on(draw: &mut Draw<'_>, path: &str) -> Request {
    let mut request = changeable(draw);
    request.path = path.to_owned();
    request
}

fn msearch(draw: &mut Draw<'_>) -> Request {
    let mut lines = Vec::new();
    for _ in 0..draw.between(1, 6) {
        let header = draw.pick(&[
            json!({}),
            json!({"index": "{index}"}),
            json!({"index": ["{index}"], "preference": "session"}),
            json!({"index": "{index}-absent"}),
            json!({"index": "{index}-absent", "ignore_unavailable": true}),
        ]);
        let mut request = changeable(draw);
        if let Some(body) = request.object() {
            lines.push(header);
            lines.push(body.take());
        }
    }
    Request::to("/{index}/_msearch", Body::Lines(lines))
}
