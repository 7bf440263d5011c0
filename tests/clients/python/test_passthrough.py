"""What is not about vectors passes untouched: the same status line, headers and bytes as from Elasticsearch itself."""

import gzip
import json
import re

import pytest

from raw import Raw

# Compared byte for byte; the answers hold no time and no counter that moves on an idle node.
ENDPOINTS = [
    ("GET", "/"),
    ("GET", "/?pretty=false"),
    ("HEAD", "/"),
    ("GET", "/?human&error_trace"),
    ("GET", "/plain"),
    ("GET", "/plain?pretty"),
    ("GET", "/plain/_mapping"),
    ("GET", "/plain/_settings?flat_settings"),
    ("GET", "/plain/_alias"),
    ("HEAD", "/plain"),
    ("HEAD", "/absent"),
    ("GET", "/absent"),
    ("GET", "/plain/_doc/1"),
    ("GET", "/plain/_doc/a%2Fb"),
    ("HEAD", "/plain/_doc/1"),
    ("GET", "/plain/_doc/none"),
    ("GET", "/plain/_source/1"),
    ("GET", "/plain/_source/1?_source=t"),
    ("GET", "/plain/_count"),
    ("GET", "/plain/_count?q=t:sail"),
    ("GET", "/plain/_search?filter_path=hits&size=2&sort=n"),
    ("GET", "/plain/_search?filter_path=hits&size=2&sort=n&format=yaml"),
    ("GET", "/plain/_search?filter_path=hits&size=2&sort=n&format=cbor"),
    ("GET", "/plain/_search?filter_path=hits&size=2&sort=n&format=smile"),
    ("GET", "/plain/_search?foo=1"),
    ("GET", "/plain/_search?size=-1"),
    ("GET", "/plain/_field_caps?fields=*"),
    ("GET", "/%70lain/_count"),
    ("GET", "/plain/_count/"),
    ("GET", "//plain/_count"),
    ("GET", "/plain/_nothing"),
    ("POST", "/plain/_nothing"),
    ("PUT", "/plain/_search"),
    ("OPTIONS", "/plain/_search"),
    ("OPTIONS", "/"),
    ("DELETE", "/absent"),
    ("GET", "/_nope"),
    ("GET", "/_cat/indices/plain?h=index,pri,rep,docs.count&v"),
    ("GET", "/_cat/indices/plain?h=index,pri,rep&format=json"),
    ("GET", "/_cluster/health?filter_path=status,cluster_name,number_of_nodes"),
    ("GET", "/_cluster/settings?include_defaults=false"),
    ("GET", "/_cluster/state/version?filter_path=cluster_name"),
    ("GET", "/_nodes?filter_path=nodes.*.name,nodes.*.version"),
    ("GET", "/_analyze?pretty"),
    ("GET", "/_index_template/absent"),
    ("GET", "/_search/scroll"),
]


@pytest.fixture(scope="module")
def plain_index(direct):
    direct.options(ignore_status=404).indices.delete(index="plain")
    direct.indices.create(index="plain", settings={"number_of_shards": 1, "number_of_replicas": 0}, mappings={"properties": {"t": {"type": "text"}, "n": {"type": "integer"}}})
    for number, key in enumerate(("1", "2", "a/b")):
        direct.index(index="plain", id=key, document={"t": "sail" if number else "reef", "n": number, "f": 2.50})
    direct.indices.refresh(index="plain")
    yield "plain"
    direct.indices.delete(index="plain")


# They belong to one connection, and a proxy has two.
HOP_BY_HOP = ("connection:", "transfer-encoding:", "content-length:")


def same(servers, *request, **options):
    ours, theirs = (Raw(url).ask(*request, **options) for url in servers)
    assert ours.head[0] == theirs.head[0], (ours, theirs)
    assert fields(ours) == fields(theirs)
    if request[0] == "HEAD":
        assert ours.header("content-length") == theirs.header("content-length")
    # Two compressors may write the same bytes differently.
    assert ours.text == theirs.text
    return ours


def fields(answer):
    """The headers that go from end to end, their names in lower case."""
    lines = [":".join([line.split(":", 1)[0].lower(), line.split(":", 1)[1]]) for line in answer.head[1:]]
    return sorted(line for line in lines if not line.startswith(HOP_BY_HOP))


@pytest.mark.parametrize("method, target", ENDPOINTS, ids=lambda value: value)
def test_bytes(plain_index, servers, method, target):
    same(servers, method, target)


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "application/json"},
        {"accept": "application/json; charset=utf-8"},
        {"accept": "application/yaml"},
        {"accept": "application/cbor"},
        {"accept": "text/html"},
        {"accept": ""},
        {"accept": "application/vnd.elasticsearch+json;compatible-with=8"},
        {"accept": "application/vnd.elasticsearch+json;compatible-with=6"},
        {"x-opaque-id": "abc-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"accept-encoding": "gzip"},
        {"accept-encoding": "deflate"},
        {"accept-encoding": "br, zstd"},
        {"authorization": "Basic bmFtZTpwYXNz"},
        {"connection": "close"},
        {"user-agent": ""},
    ],
    ids=str,
)
def test_headers(plain_index, servers, headers):
    same(servers, "GET", "/plain/_mapping?pretty", headers=headers)
    same(servers, "GET", "/absent/_mapping", headers=headers)


@pytest.mark.parametrize("target", ["/", "/plain/_count", "/absent", "/plain/_search", "/_cat/indices/plain", "/plain/_doc/1"])
def test_header_names_as_written(plain_index, servers, target):
    """Header names have no case, but some old clients think so."""
    ours, theirs = (Raw(url).ask("GET", target, headers={"x-opaque-id": "a"}) for url in servers)
    assert sorted(line for line in ours.head[1:] if line[:7].lower() != "content") == sorted(line for line in theirs.head[1:] if line[:7].lower() != "content")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/yaml"},
        {"content-type": "application/json; charset=UTF-8"},
        {"content-type": "application/vnd.elasticsearch+json;compatible-with=8"},
        {"content-type": "application/vnd.elasticsearch+json;compatible-with=8", "accept": "application/vnd.elasticsearch+json;compatible-with=8"},
        {"content-type": ""},
        {"expect": "nothing"},
    ],
    ids=str,
)
def test_content_types(plain_index, servers, headers):
    same(servers, "POST", "/plain/_count", b'{"query":{"term":{"t":"sail"}}}', headers=headers)


def test_a_refused_expectation_does_not_leak_into_the_next_request(plain_index, servers):
    """Elasticsearch answers 417 without reading the body: its bytes must not become the start of somebody's next request on a pooled connection."""
    for _ in range(5):
        same(servers, "POST", "/plain/_count", b'{"query":{"match_all":{}}}', headers={"expect": "nothing"})
        for _ in range(3):
            same(servers, "GET", "/plain/_count", b'{"query":{"term":{"t":"sail"}}}')


def test_bodies(plain_index, servers):
    body = b'{"query":{"match":{"t":"sail"}}}'
    same(servers, "GET", "/plain/_count", body)
    same(servers, "POST", "/plain/_count", gzip.compress(body, mtime=0), headers={"content-encoding": "gzip"})
    same(servers, "POST", "/plain/_count", b'{"query":')
    same(servers, "POST", "/_analyze", '{"text":"Ünïcode £ ☃"}'.encode())
    same(servers, "POST", "/plain/_mget", b'{"ids":["1","none"]}')


def test_a_gzipped_search_answer_is_the_same_inside(pair, servers):
    """A search through vectors, compressed: chunked, same content type, same document bytes."""
    request = json.dumps({"query": {"term": {"tag": "sail"}}, "size": 3, "sort": "n"}).encode()
    texts = []
    for url, index in zip(servers, (pair.ivf, pair.twin)):
        answer = Raw(url).ask("POST", f"/{index}/_search?filter_path=hits", request, headers={"accept-encoding": "gzip"})
        assert answer.header("content-encoding") == "gzip" and answer.header("x-elastic-product") == "Elasticsearch"
        texts.append(re.sub(re.escape(index.encode()), b"INDEX", answer.text))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("accept", [None, "application/json; charset=utf-8", "application/yaml", "application/cbor", "application/smile"])
def test_a_knn_answer_carries_the_same_headers(pair, servers, accept):
    body = json.dumps({"knn": {"field": "cos", "query_vector": [0.5] * 16, "k": 3, "num_candidates": 240}, "_source": False}).encode()
    answers = [
        Raw(url).ask("POST", f"/{index}/_search", body, headers={"x-opaque-id": "q-7"} | ({"accept": accept} if accept else {})) for url, index in zip(servers, (pair.ivf, pair.twin))
    ]
    assert answers[0].status == answers[1].status == 200
    assert fields(answers[0]) == fields(answers[1])


def test_a_body_that_ends_early_writes_nothing_and_harms_nobody(pair, servers):
    line = b'{"index":{"_id":"never"}}\n{"n":1}\n'
    Raw(servers[0]).send_part("POST", f"/{pair.ivf}/_bulk", line[:30], promised=len(line))
    Raw(servers[0]).send_part("POST", f"/{pair.ivf}/_search", b'{"knn":{"fie', promised=500)
    pair.search(knn={"field": "cos", "query_vector": [0.5] * 16, "k": 3, "num_candidates": 240}, source=False)
    assert not pair.outrigger.exists(index=pair.ivf, id="never")
