"""Frameworks as applications use them, unchanged but for the URL: each test does the same through Outrigger and directly, and compares what the framework gives.

Through Outrigger the framework makes its index itself, without index options, so that it becomes `ivf`. Its twin has the same mapping with the type `hnsw`, since a
quantised type of Elasticsearch's choice would print estimates. Servers come from OUTRIGGER_URL, OUTRIGGER_ADMIN_URL and ELASTICSEARCH_URL (`scripts/test-clients --frameworks`)."""

import hashlib
import os
import re
import time
import urllib.request

import elasticsearch
import numpy as np
import pytest

DIMS = 24
COUNT = 120
TOPICS = ("harbour", "mountain", "kitchen", "library", "airport")


def embed(text):
    """A vector that depends on the text alone: near for texts of one topic."""
    def draw(word):
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        return np.random.default_rng(seed).normal(size=DIMS)

    mixed = sum(draw(word) for word in text.split()) + 0.3 * draw(text)
    return (mixed / np.linalg.norm(mixed)).astype(np.float32).astype(float).tolist()


def texts():
    return [f"{TOPICS[number % len(TOPICS)]} note {number}" for number in range(COUNT)]


class Sides:
    """The two servers, and the indexes of one test on them."""

    def __init__(self, name):
        self.outrigger = os.environ["OUTRIGGER_URL"]
        self.direct = os.environ["ELASTICSEARCH_URL"]
        self.admin = os.environ["OUTRIGGER_ADMIN_URL"]
        self.ours, self.twin = f"ours-{name}", f"twin-{name}"
        self.clients = {url: elasticsearch.Elasticsearch(url, request_timeout=60) for url in (self.outrigger, self.direct)}
        self.drop()

    def drop(self):
        for url, index in ((self.outrigger, self.ours), (self.direct, self.twin)):
            self.clients[url].options(ignore_status=404).indices.delete(index=index)

    def make_twin(self):
        """The twin of the index that the framework made through Outrigger: the same mapping, but a graph."""
        made = self.clients[self.outrigger].indices.get_mapping(index=self.ours)[self.ours]["mappings"]
        graph = {"type": "hnsw", "m": 64, "ef_construction": 400}
        for field in made["properties"].values():
            if field.get("type") == "dense_vector":
                assert field["index_options"]["type"] == "ivf", field
                field["index_options"] = graph
        self.clients[self.direct].indices.create(index=self.twin, mappings=made)

    def settle(self):
        """Waits until Outrigger has learnt the index. It is not known before Outrigger has seen the dims, which Elasticsearch takes from the first vector."""
        client = self.clients[self.outrigger].options(ignore_status=404)
        deadline = time.monotonic() + 60
        while not client.perform_request("GET", f"/_ivf/{self.ours}/_stats", headers={"accept": "application/json"}).body.get("ready"):
            assert time.monotonic() < deadline, "the index is not learnt"
            time.sleep(0.05)

    def refresh(self):
        for url, index in ((self.outrigger, self.ours), (self.direct, self.twin)):
            self.clients[url].indices.refresh(index=index)

    def served(self):
        """Searches that Outrigger served itself so far, by way."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        counted = {}
        for line in lines:
            match = re.match(r'outrigger_requests_total\{(.*)\} (\d+)', line)
            way = match and re.search(r'way="(\w+)"', match[1])
            if way:
                counted[way[1]] = counted.get(way[1], 0) + int(match[2])
        return sum(counted.get(way, 0) for way in ("answer", "fetch", "splice"))


@pytest.fixture
def sides(request):
    sides = Sides("".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-"))
    yield sides
    sides.drop()


def same(ours, theirs):
    """Two lists of (what, score): equal in order up to equal scores."""
    assert len(ours) == len(theirs), f"{ours}\n{theirs}"
    assert ours, "nothing was found, so nothing was compared"
    for (_, left), (_, right) in zip(ours, theirs):
        assert left == pytest.approx(right, rel=1e-5, abs=1e-6), f"{ours}\n{theirs}"
    last = theirs[-1][1]
    kept = [{what for what, score in side if score != pytest.approx(last, rel=1e-5)} for side in (ours, theirs)]
    assert kept[0] == kept[1], f"{ours}\n{theirs}"
