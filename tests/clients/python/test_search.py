"""knn searches in many shapes: what Outrigger answers is what Elasticsearch answers for an hnsw index."""

import itertools
import time

import pytest

from corpus import WIDE, query

FIELDS = ("cos", "l2", "dot", "mip", "byte", "bit")


def knn(field, number=0, **more):
    return {"field": field, "query_vector": query(field, number), "k": 10, "num_candidates": WIDE} | more


@pytest.fixture(autouse=True)
def known_field(request, version):
    field = getattr(request.node, "callspec", None) and request.node.callspec.params.get("field")
    if field == "bit" and version < (8, 15, 0):
        pytest.skip("bit vectors exist since 8.15")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("k, size, start", [(1, 10, 0), (10, 10, 0), (25, 5, 0), (25, 10, 10), (10, 0, 0), (240, 240, 0), (10, 5, 20)])
def test_top_level_knn(pair, field, k, size, start):
    for number in range(3):
        pair.search(knn=knn(field, number, k=k), size=size, from_=start, source=False)


@pytest.mark.parametrize("field", FIELDS)
def test_knn_query(pair, field):
    for number, size in itertools.product(range(3), (3, 10)):
        pair.search(query={"knn": {"field": field, "query_vector": query(field, number), "num_candidates": WIDE}}, size=size, source=False)


@pytest.mark.parametrize("field", FIELDS)
def test_knn_query_with_k(pair, version, field):
    if version < (8, 15, 0):
        pytest.skip("the knn query knows k since 8.15")
    for number, size in itertools.product(range(3), (3, 10)):
        pair.search(query={"knn": knn(field, number, k=7)}, size=size, source=False)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("size", [3, 20])
def test_knn_retriever(pair, version, field, size):
    if version < (8, 14, 0):
        pytest.skip("retrievers exist since 8.14")
    vector = query(field)
    pair.search(retriever={"knn": {"field": field, "query_vector": vector, "k": 12, "num_candidates": WIDE}}, size=size, source=False)


@pytest.mark.parametrize("field", FIELDS)
def test_boost(pair, field):
    for boost in (0, 0.5, 3):
        pair.search(knn=knn(field, boost=boost), source=False)


@pytest.mark.parametrize("field, threshold", [("cos", 0.2), ("cos", 1.0), ("cos", -1.0), ("l2", 4.5), ("dot", 0.1), ("mip", 1.5), ("byte", 300.0), ("bit", 28)])
def test_similarity_threshold(pair, field, threshold):
    pair.search(knn=knn(field, similarity=threshold, k=50), size=50, source=False)
    pair.search(knn=knn(field, similarity=threshold, k=50, boost=2), size=50, source=False)


FILTERS = {
    "term": {"term": {"tag": "harbour"}},
    "list": [{"term": {"tag": "sail"}}, {"range": {"n": {"lt": 120}}}],
    "bool": {"bool": {"should": [{"term": {"tag": "mast"}}, {"match": {"title": "reef"}}], "must_not": {"range": {"n": {"gte": 200}}}}},
    "one": {"term": {"n": 41}},
    "ids": {"ids": {"values": ["1", "2", "3", "900"]}},
    "none": {"term": {"tag": "volcano"}},
    "match none": {"match_none": {}},
    "all": {"match_all": {}},
    "exists": {"exists": {"field": "kids"}},
    "terms": {"terms": {"tag": ["harbour", "anchor"]}},
    "nested": {"nested": {"path": "kids", "query": {"term": {"kids.part": "sail"}}}},
    "prefix": {"prefix": {"tag": "an"}},
    "empty list": [],
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("field", ["cos", "byte"])
def test_filter(pair, field, name):
    # Twice: the second time a remembered filter may answer.
    for number in range(2):
        pair.search(knn=knn(field, number, filter=FILTERS[name]), source=False)
        pair.search(query={"knn": {"field": field, "query_vector": query(field, number), "num_candidates": WIDE, "filter": FILTERS[name]}}, source=False)


SOURCES = {
    "default": {},
    "all": {"source": True},
    "none": {"source": False},
    "one": {"source": ["title"]},
    "includes and excludes": {"source": {"includes": ["t*", "n"], "excludes": ["tag"]}},
    "vector": {"source": ["cos"]},
    "fields": {"source": False, "fields": ["tag", "n"]},
    "vector by fields": {"source": False, "fields": ["l2"]},
    "doc values": {"source": False, "docvalue_fields": ["n"]},
    "stored": {"stored_fields": ["_none_"]},
    "version": {"source": False, "version": True},
    "seq_no": {"source": False, "seq_no_primary_term": True},
    "explain": {"source": False, "explain": True},
    "no total": {"source": False, "track_total_hits": False},
    "total up to 3": {"source": False, "track_total_hits": 3},
    "min score": {"source": False, "min_score": 0.6},
    "post filter": {"source": False, "post_filter": {"term": {"tag": "harbour"}}},
    "script-free sort": {"source": False, "sort": [{"n": "desc"}]},
    "sort by score": {"source": False, "sort": ["_score"]},
    "sort by score and n": {"source": False, "sort": ["_score", {"n": "asc"}]},
    "track scores": {"source": False, "sort": [{"n": "asc"}], "track_scores": True},
    "aggregation": {"size": 0, "aggs": {"tags": {"terms": {"field": "tag"}}, "n": {"stats": {"field": "n"}}}},
    "collapse": {"source": False, "collapse": {"field": "tag"}},
    "rescore": {"source": False, "rescore": {"window_size": 5, "query": {"rescore_query": {"match": {"title": "anchor"}}}}},
    "highlight": {"source": False, "query": {"match": {"title": "anchor"}}, "highlight": {"fields": {"title": {}}}},
    "profile off": {"source": False, "profile": False},
    "timeout": {"source": False, "timeout": "10s"},
    "terminate after": {"source": False, "terminate_after": 1000},
    "runtime field": {"source": False, "runtime_mappings": {"copy": {"type": "long"}}, "fields": ["copy"]},
    "filter path": {"filter_path": "hits.hits._id,hits.hits._score"},
    "filter path without shards": {"source": False, "filter_path": "-_shards"},
    "typed keys": {"source": False, "typed_keys": True},
    "total as int": {"source": False, "rest_total_hits_as_int": True},
    "routing": {"source": False, "routing": "a"},
    "preference": {"source": False, "preference": "_local"},
    "batched": {"source": False, "batched_reduce_size": 2},
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("form", ["knn", "query"])
def test_options(pair, name, form):
    options = SOURCES[name]
    if form == "knn":
        pair.search(knn=knn("cos"), **options)
    elif "query" not in options and "size" not in options:
        pair.search(query={"knn": {"field": "cos", "query_vector": query("cos"), "num_candidates": WIDE}}, **options)


@pytest.mark.parametrize("name", ["match", "match_all", "bool", "term"])
def test_hybrid(pair, name):
    text = {
        "match": {"match": {"title": "anchor tide"}},
        "match_all": {"match_all": {}},
        "bool": {"bool": {"must": {"match": {"title": "sail"}}, "filter": {"range": {"n": {"gt": 50}}}}},
        "term": {"term": {"tag": {"value": "mast", "boost": 2}}},
    }[name]
    pair.search(knn=knn("cos"), query=text, size=30, source=False)
    pair.search(knn=knn("cos", boost=0.3), query=text, size=30, source=False, aggs={"tags": {"terms": {"field": "tag"}}})
    pair.search(query={"bool": {"should": [{"knn": {"field": "l2", "query_vector": query("l2"), "num_candidates": WIDE}}, text]}}, size=30, source=False)


def test_several_knn(pair):
    pair.search(knn=[knn("cos"), knn("l2", 1, boost=0.5), knn("byte", k=3)], size=40, source=False)
    pair.search(knn=[knn("cos"), knn("cos", 1)], query={"match": {"title": "gull"}}, size=40, source=False)
    pair.search(knn=[], size=3, source=False, sort=[{"n": "asc"}])


def test_knn_inside_other_queries(pair):
    inner = {"knn": {"field": "cos", "query_vector": query("cos"), "num_candidates": WIDE}}
    for outer in (
        {"bool": {"must": inner, "filter": {"term": {"tag": "sail"}}}},
        {"bool": {"filter": inner}},
        {"bool": {"must": {"match_all": {}}, "must_not": inner}},
        {"constant_score": {"filter": inner}},
        {"dis_max": {"queries": [inner, {"match": {"title": "rope"}}]}},
        {"function_score": {"query": inner, "functions": [{"weight": 2}]}},
        {"boosting": {"positive": inner, "negative": {"term": {"tag": "mast"}}, "negative_boost": 0.5}},
    ):
        pair.search(query=outer, size=30, source=False)


def test_nested(pair):
    for number in range(3):
        pair.search(knn=knn("kids.v", number), source=False)
        pair.search(knn=knn("kids.v", number, filter={"term": {"tag": "sail"}}), source=False)
        pair.search(knn=knn("kids.v", number, inner_hits={"size": 2, "_source": False}), source=False)
        inner = {"knn": {"field": "kids.v", "query_vector": query("kids.v", number), "num_candidates": WIDE}}
        pair.search(query={"nested": {"path": "kids", "query": inner}}, source=False)
        pair.search(query={"nested": {"path": "kids", "query": inner, "inner_hits": {"_source": False}}}, source=False)


def test_query_vector_spellings(pair, version):
    vector = query("byte")
    for spelled in [vector, [float(value) for value in vector], [str(value) for value in vector]]:
        pair.search(knn=knn("byte", query_vector=spelled), source=False)
    if version >= (8, 14, 0):
        text = bytes(value & 0xFF for value in vector).hex()
        pair.search(knn=knn("byte", query_vector=text), source=False)
        pair.search(knn=knn("byte", query_vector=text.upper()), source=False)
    pair.search(knn=knn("cos", k="3"), source=False)
    pair.search(knn=knn("cos", k=2.5), source=False)


def test_defaults_of_k(pair, version):
    if version < (8, 13, 0):
        pytest.skip("k and num_candidates may be absent since 8.13")
    vector = query("cos")
    pair.search(knn={"field": "cos", "query_vector": vector, "num_candidates": WIDE}, source=False)
    pair.search(knn={"field": "cos", "query_vector": vector, "num_candidates": WIDE}, size=4, source=False)
    # The default of num_candidates is narrow, so hnsw may miss some: only the shape is certain.
    ours, theirs = pair.both(lambda client, index: client.search(index=index, knn={"field": "cos", "query_vector": vector}, source=False))
    assert ours[1]["hits"]["total"] == theirs[1]["hits"]["total"] and list(ours[1]) == list(theirs[1])
    assert all(left["_score"] >= right["_score"] * (1 - 1e-6) for left, right in zip(ours[1]["hits"]["hits"], theirs[1]["hits"]["hits"]))


def test_count_validate_and_explain(pair, version):
    inner = {"knn": {"field": "cos", "query_vector": query("cos"), "num_candidates": WIDE} | ({"k": 5} if version >= (8, 15, 0) else {})}
    pair.same(lambda client, index: client.count(index=index, query=inner))
    pair.same(lambda client, index: client.indices.validate_query(index=index, query=inner))
    pair.search(query=inner, size=0, aggs={"tags": {"terms": {"field": "tag"}}})
    hit = pair.search(query=inner, size=1, source=False)["hits"]["hits"][0]["_id"]
    ours, theirs = pair.both(lambda client, index: client.explain(index=index, id=hit, query=inner))
    assert (ours[0], ours[1]["matched"]) == (theirs[0], theirs[1]["matched"])


def test_msearch(pair):
    bodies = [{"knn": knn("cos", number), "_source": False} for number in range(3)] + [
        {"knn": knn("byte"), "_source": ["n"]},
        {"query": {"term": {"tag": "sail"}}, "size": 3, "_source": False},
        {"knn": knn("cos", query_vector=[1.0, 2.0]), "_source": False},
        {"query": {"knn": {"field": "l2", "query_vector": query("l2"), "num_candidates": WIDE}}, "_source": False},
    ]
    pair.same(lambda client, index: client.msearch(index=index, searches=[line for body in bodies for line in ({}, body)]))


def test_targets(pair, outrigger, direct):
    """An alias, a filtered alias, a wildcard, a list with an index that has no such field."""
    for client, index in ((outrigger, pair.ivf), (direct, pair.twin)):
        client.indices.put_alias(index=index, name=f"all-{index}")
        client.indices.put_alias(index=index, name=f"few-{index}", filter={"term": {"tag": "reef"}})
        client.indices.put_alias(index=index, name=f"sail-{index}", filter={"term": {"tag": "sail"}})
    for pattern in ("all-{}", "few-{}", "sail-{}", "{}*", "{},{}", "{},missing-*"):
        pair.same(lambda client, index: client.search(index=pattern.replace("{}", index), knn=knn("cos"), source=False))
    pair.same(lambda client, index: client.search(index=f"{index},absent", knn=knn("cos"), source=False, ignore_unavailable=True))


# What this version does itself, and what it leaves to Elasticsearch. A shape that moves up is a reason to celebrate.
WAYS = {
    "ids and scores": ("answer", {"knn": knn("cos"), "source": False}),
    "no hits wanted": ("answer", {"knn": knn("cos"), "size": 0}),
    "documents": ("fetch", {"knn": knn("l2"), "source": ["n"]}),
    "fields": ("fetch", {"knn": knn("dot"), "source": False, "fields": ["n"]}),
    "filter": ("answer", {"knn": knn("cos", filter=FILTERS["term"]), "source": False}),
    "filter that nobody remembers": ("pass", {"knn": knn("cos", filter={"wildcard": {"tag": "r*f"}}), "source": False}),
    "knn query": ("answer", {"query": {"knn": {"field": "dot", "query_vector": query("dot"), "num_candidates": WIDE}}, "source": False}),
    "hybrid": ("splice", {"knn": knn("mip"), "query": {"match": {"title": "sail"}}, "source": False}),
    "several": ("splice", {"knn": [knn("cos"), knn("l2")], "source": False}),
    "nested": ("answer", {"knn": knn("kids.v"), "source": False}),
    "inner hits": ("splice", {"knn": knn("kids.v", inner_hits={"_source": False}), "source": False}),
    "aggregation": ("splice", {"knn": knn("cos"), "size": 0, "aggs": {"tags": {"terms": {"field": "tag"}}}}),
}


# Documents that an earlier search fetched need not be fetched again.
KEPT = "answer; reason=documents_kept"


@pytest.mark.parametrize("name", WAYS)
def test_what_outrigger_does_itself(pair, name):
    """Without this, passing everything on would pass every other test."""
    way, request = WAYS[name]
    told = pair.way(**request)
    # A filter is read when it is asked with again, and answers from then on.
    deadline = time.monotonic() + 10
    while told == "pass; reason=filter_unknown" and time.monotonic() < deadline:
        told = pair.way(**request)
    assert told.startswith(f"{way};") or (way == "fetch" and told == KEPT)
