"""How the client connects: the product check, compressed bodies, nodes that it finds by itself, and a server that is too busy now and then."""

import os
import urllib.parse
import uuid

import elasticsearch
import pytest

from corpus import WIDE, query

KNN = {"field": "cos", "query_vector": query("cos"), "k": 5, "num_candidates": WIDE}


def host(url):
    return urllib.parse.urlsplit(url).netloc


def test_connect(outrigger, direct):
    assert outrigger.ping()
    assert outrigger.info().body == direct.info().body


def test_compression(pair, servers):
    for url, index in zip(servers, (pair.ivf, pair.twin)):
        with elasticsearch.Elasticsearch(url, http_compress=True) as client:
            answer = client.search(index=index, knn=KNN, source=["title"])
            assert answer.meta.headers["content-encoding"] == "gzip"
            assert len(answer["hits"]["hits"]) == 5


def test_sniffing(pair, servers):
    """Through Outrigger the client ends with Outrigger's address, never with Elasticsearch's."""
    for url, index in zip(servers, (pair.ivf, pair.twin)):
        with elasticsearch.Elasticsearch(url, sniff_on_start=True, sniff_before_requests=True, sniff_on_node_failure=True) as client:
            for _ in range(3):
                assert len(client.search(index=index, knn=KNN, source=False)["hits"]["hits"]) == 5
            assert [host(node.base_url) for node in client.transport.node_pool.all()] == [host(url)]


def test_retries(pair, servers):
    """A refusal passes as it is, and the client tries again: a search that Elasticsearch must see, since one that is answered here needs no second try."""
    if "OUTRIGGER_FAULTY_URL" not in os.environ:
        pytest.skip("scripts/test-clients starts servers that are too busy now and then")
    busy = [os.environ["OUTRIGGER_FAULTY_URL"], os.environ["ELASTICSEARCH_FAULTY_URL"]]
    for url, index in zip(busy, (pair.ivf, pair.twin)):
        with elasticsearch.Elasticsearch(url, max_retries=3, retry_on_status=(429, 503)) as client:
            for status in (429, 503):
                patient = client.options(headers={"x-fault": f"{status} 2 {uuid.uuid4()}"})
                assert len(patient.search(index=index, query={"term": {"tag": "sail"}}, size=3)["hits"]["hits"]) == 3
                refused = client.options(headers={"x-fault": f"{status} 9 {uuid.uuid4()}"})
                with pytest.raises(elasticsearch.ApiError) as error:
                    refused.search(index=index, query={"term": {"tag": "sail"}}, size=3)
                assert error.value.meta.status == status
                assert error.value.body["status"] == status
