"""Servers, clients and the two indexes that every test compares.

`ivf` is created through Outrigger with the type `ivf`; `twin` has the same mapping with the type `hnsw`, and only Elasticsearch knows it. A test asks the first
through Outrigger and the second directly, and expects the same answer. The servers come from OUTRIGGER_URL and ELASTICSEARCH_URL; `scripts/test-clients` sets
them. Without them, one pair is started for the session (OUTRIGGER_ES_VERSION, OUTRIGGER_BINARY)."""

import os
import pathlib
import sys
import time

import elasticsearch
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "scripts/lib"))

import corpus  # noqa: E402
from stack import ROOT, Stack  # noqa: E402
from twin import Pair  # noqa: E402

SETTLE = 60


@pytest.fixture(scope="session")
def servers():
    """The urls of Outrigger and of the Elasticsearch behind it."""
    if "OUTRIGGER_URL" in os.environ:
        yield os.environ["OUTRIGGER_URL"], os.environ["ELASTICSEARCH_URL"]
        return
    binary = os.environ.get("OUTRIGGER_BINARY") or next((str(path) for kind in ("release", "debug") if (path := ROOT / "target" / kind / "outrigger").exists()), None)
    assert binary, "no outrigger binary: build it, name it in OUTRIGGER_BINARY, or use scripts/test-clients"
    stack = Stack(binary, version=os.environ.get("OUTRIGGER_ES_VERSION"))
    try:
        stack.start()
        yield stack.url, stack.elasticsearch
    finally:
        stack.close()


@pytest.fixture(scope="session")
def outrigger(servers):
    """The official client, unchanged, pointed at Outrigger."""
    with elasticsearch.Elasticsearch(servers[0], request_timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def direct(servers):
    """The official client, pointed at Elasticsearch."""
    with elasticsearch.Elasticsearch(servers[1], request_timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def version(direct):
    """Elasticsearch's version as numbers."""
    return tuple(map(int, direct.info()["version"]["number"].split(".")))


@pytest.fixture(scope="session")
def pair(outrigger, direct, version):
    """Both indexes with the same documents, for tests that only read."""
    pair = Pair(outrigger, direct, "docs-ivf", "docs-hnw")
    make(pair, version, shards=2)
    fill(pair, corpus.documents())
    settle(pair)
    yield pair
    pair.drop()


@pytest.fixture
def scratch(request, outrigger, direct, version):
    """Two small indexes of its own for a test that writes."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower())[:60].strip("-")
    pair = Pair(outrigger, direct, f"{name}-ivf", f"{name}-hnw")
    pair.drop()
    make(pair, version, shards=1)
    fill(pair, corpus.documents(60))
    yield pair
    pair.drop()


def make(pair, version, shards):
    settings = {"number_of_shards": shards, "number_of_replicas": 0}
    pair.drop()
    pair.outrigger.indices.create(index=pair.ivf, mappings=corpus.mappings("ivf", version), settings=settings)
    pair.direct.indices.create(index=pair.twin, mappings=corpus.mappings("hnsw", version), settings=settings)


def fill(pair, documents):
    for client, index in ((pair.outrigger, pair.ivf), (pair.direct, pair.twin)):
        operations = [line for number, document in enumerate(documents) for line in ({"index": {"_id": str(number)}}, document)]
        answer = client.bulk(index=index, operations=operations, refresh=True)
        assert not answer["errors"], [item for item in answer["items"] if "error" in item["index"]][:3]


def settle(pair):
    """Waits until Outrigger answers searches of the index itself: while an index is unbuilt it passes them."""
    request = {"knn": {"field": "cos", "query_vector": corpus.query("cos"), "k": 3, "num_candidates": 50}, "source": False}
    deadline = time.monotonic() + SETTLE
    while (way := pair.way(**request)).startswith("pass"):
        assert time.monotonic() < deadline, f"Outrigger still passes a plain knn search: {way}"
        time.sleep(0.1)


def pytest_sessionfinish(session):
    """Tells `scripts/test-clients` what passed: file by file, and the tests of the connection one by one."""
    results = os.environ.get("OUTRIGGER_RESULTS")
    if not results:
        return
    passed = {}
    for item in session.items:
        file = pathlib.Path(str(item.path)).stem
        name = item.name.removeprefix("test_") if file == "test_connection" else file
        passed[name] = passed.get(name, True) and item.nodeid in PASSED
    pathlib.Path(results).write_text("".join(f"{'' if ok else 'not '}ok {name}\n" for name, ok in passed.items()))


PASSED = set()


def pytest_runtest_logreport(report):
    if report.when == "call" and not report.failed or report.when == "setup" and report.skipped:
        PASSED.add(report.nodeid)
