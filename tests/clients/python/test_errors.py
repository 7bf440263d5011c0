"""Bad input gets Elasticsearch's own status and body, and leaves the index as it was."""

import json

import pytest

from corpus import DIMS, WIDE, query
from raw import Raw
from twin import compare, plain

VECTOR = query("cos")
KNN = {"field": "cos", "query_vector": VECTOR, "k": 5, "num_candidates": WIDE}

BAD_KNN = {
    "too few dims": {"query_vector": [1.0, 2.0]},
    "too many dims": {"query_vector": VECTOR + [1.0]},
    "no dims": {"query_vector": []},
    "zero vector": {"query_vector": [0.0] * DIMS},
    "word in vector": {"query_vector": ["a"] + VECTOR[1:]},
    "null in vector": {"query_vector": [None] + VECTOR[1:]},
    "nested vector": {"query_vector": [VECTOR]},
    "object as vector": {"query_vector": {"a": 1}},
    "huge value": {"query_vector": [1e39] + VECTOR[1:]},
    "bad hex": {"query_vector": "zz" * DIMS},
    "odd hex": {"query_vector": "abc"},
    "no vector": {"query_vector": None},
    "k 0": {"k": 0},
    "k negative": {"k": -1},
    "k word": {"k": "many"},
    "k null": {"k": None},
    "k above candidates": {"k": 20, "num_candidates": 10},
    "too many candidates": {"num_candidates": 10001},
    "unmapped field": {"field": "nope"},
    "text field": {"field": "title"},
    "field missing": {"field": None},
    "unknown key": {"foo": 1},
    "filter word": {"filter": "x"},
    "filter null": {"filter": None},
    "unknown query": {"filter": {"nope": {}}},
    "bad range": {"filter": {"range": {"n": {"gte": "x"}}}},
    "negative boost": {"boost": -1},
    "similarity word": {"similarity": "x"},
}


@pytest.mark.parametrize("name", BAD_KNN)
@pytest.mark.parametrize("form", ["knn", "query", "retriever"])
def test_bad_knn(pair, version, name, form):
    bad = KNN | BAD_KNN[name]
    if form == "knn":
        pair.search(knn=bad, source=False)
    elif form == "query":
        ours, theirs = pair.both(lambda client, index: client.search(index=index, query={"knn": bad}, source=False))
        assert ours[0] == theirs[0]
        # Elasticsearch renders the query by its implementation's name in this one message.
        if name != "negative boost":
            compare(ours[1], theirs[1])
    elif version >= (8, 14, 0):
        pair.search(retriever={"knn": bad}, source=False)


@pytest.mark.parametrize("field, vector", [("byte", [1.5] * DIMS), ("byte", [200] * DIMS), ("dot", [1.0] * DIMS), ("bit", [1, 2]), ("bit", "zz"), ("kids.v", [1.0])])
def test_bad_vectors_of_other_types(pair, version, field, vector):
    if field == "bit" and version < (8, 15, 0):
        pytest.skip("bit vectors exist since 8.15")
    pair.search(knn=KNN | {"field": field, "query_vector": vector}, source=False)


@pytest.mark.parametrize(
    "options",
    [
        {"size": -1},
        {"from_": -1},
        {"size": 10001},
        {"sort": [{"cos": "asc"}]},
        {"sort": [{"nope": "asc"}]},
        {"aggs": {"a": {"terms": {"field": "cos"}}}},
        {"aggs": {"a": {"nope": {}}}},
        {"search_type": "query_then_fetch"},
        {"preference": "_nope"},
        {"timeout": "soon"},
        {"rescore": {"nope": 1}},
    ],
    ids=lambda options: "-".join(options),
)
def test_bad_options(pair, options):
    pair.search(knn=KNN, source=False, **options)


# A proxy may know the length of an answer that Elasticsearch sends in chunks.
FRAMING = {"content-length", "transfer-encoding"}
BODIES = {
    "cut off": b'{"knn":{"field":"cos","query_vector":[1,2',
    "nan": b'{"knn":{"field":"cos","query_vector":[NaN,1],"k":1,"num_candidates":5}}',
    "two objects": b'{"knn":{"field":"cos","query_vector":[1,2],"k":1,"num_candidates":5}}{}',
    "duplicate key": b'{"knn":{"field":"cos","k":1,"k":2,"query_vector":[1],"num_candidates":5}}',
    "trailing comma": b'{"size":1,}',
    "comment": b'{/* a */"size":1}',
    "knn null": b'{"knn":null}',
    "knn word": b'{"knn":"x"}',
    "knn number in list": b'{"knn":[1]}',
    "unknown key": b'{"knnx":{}}',
    "empty": b"",
    "empty object": b'{"size":0}',
    "array": b"[]",
    "word": b'"x"',
    "not utf-8": b'{"size":1,"a":"\xff\xfe"}',
    "binary": bytes(range(32)),
    "blank": b"   ",
    "unknown retriever": b'{"retriever":{"nope":{}}}',
    "retriever and knn": b'{"retriever":{"knn":{"field":"cos","query_vector":[1],"k":1,"num_candidates":1}},"knn":{"field":"cos","query_vector":[1],"k":1,"num_candidates":1}}',
    "no required": b'{"knn":{}}',
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies(pair, servers, name):
    answers = []
    for url, index in zip(servers, (pair.ivf, pair.twin)):
        answer = Raw(url).ask("POST", f"/{index}/_search?size=0", BODIES[name])
        answers.append((answer.status, answer.names - FRAMING, plain(json.loads(answer.body), index)))
    assert answers[0][:2] == answers[1][:2], answers
    compare(answers[0][2], answers[1][2])


@pytest.mark.parametrize(
    "document",
    [
        {"cos": [1.0, 2.0]},
        {"cos": [1.0] * (DIMS + 1)},
        {"cos": ["a"] * DIMS},
        {"cos": "text"},
        {"cos": 1},
        {"cos": {"x": 1}},
        {"cos": [[1.0] * DIMS]},
        {"cos": [0.0] * DIMS},
        {"cos": []},
        {"dot": [1.0] * DIMS},
        {"byte": [1.5] * DIMS},
        {"byte": [300] * DIMS},
        {"l2": [1e39] * DIMS},
        {"kids": [{"v": [1.0]}]},
        {"n": "word"},
    ],
    ids=lambda document: "-".join(f"{field}-{str(value)[:12]}" for field, value in document.items()),
)
def test_bad_documents(scratch, document):
    scratch.same(lambda client, index: client.index(index=index, id="bad", document=document))
    good = {"title": "fine", "n": 1}
    lines = [{"index": {"_id": "good"}}, good, {"index": {"_id": "bad"}}, document, {"create": {"_id": "1"}}, good, {"delete": {"_id": "none"}}]
    scratch.same(lambda client, index: client.bulk(index=index, operations=lines, refresh=True))
    scratch.search(knn=KNN, source=False)
    scratch.search(query={"match_all": {}}, size=0)


def test_bad_bulks(scratch, servers):
    for body in (
        b'{"index":{}}\n{"n":1}',
        b'{"nope":{}}\n{"n":1}\n',
        b'{"index":{"foo":1}}\n{"n":1}\n',
        b'{"index":\n',
        b"\n",
        b"",
        b'{"index":{"_id":"x"}}\n{"cos":[1,2\n{"index":{"_id":"y"}}\n{"n":2}\n',
    ):
        answers = []
        for url, index in zip(servers, (scratch.ivf, scratch.twin)):
            answer = Raw(url).ask("POST", f"/{index}/_bulk", body, {"content-type": "application/x-ndjson"})
            answers.append((answer.status, plain(json.loads(answer.body), index)))
        assert answers[0][0] == answers[1][0], answers
        compare(answers[0][1], answers[1][1])


def test_missing_index(pair):
    for pattern in ("absent", "absent,{}"):
        pair.same(lambda client, index: client.search(index=pattern.replace("{}", index), knn=KNN))
    for pattern in ("absent-*",):
        pair.same(lambda client, index: client.search(index=pattern, knn=KNN))
        pair.same(lambda client, index: client.search(index=pattern, knn=KNN, allow_no_indices=False))


def test_bad_ivf_options_create_nothing(outrigger):
    """An invalid option of ours is refused as Elasticsearch refuses one of its own: 400, its error type, no index."""
    for options in ({"type": "ivf", "nlist": -1}, {"type": "ivf", "nlist": "many"}, {"type": "ivf", "nope": 1}, {"type": "ivf", "recall": 2.0}, {"type": "ivf", "quantizer": "nope"}):
        field = {"type": "dense_vector", "dims": 4, "index_options": options}
        answer = outrigger.options(ignore_status=400).indices.create(index="refused", mappings={"properties": {"v": field}})
        assert answer.meta.status == 400, (options, answer.body)
        assert answer["error"]["type"] == "mapper_parsing_exception", (options, answer.body)
        assert not outrigger.indices.exists(index="refused")
