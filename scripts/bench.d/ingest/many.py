"""Thousands of small indices with a vector field: what they cost when nothing happens."""

import time

import machine
import numpy as np
from load import settle
from stack import say

INDICES = 2_000
DOCUMENTS = 10
AT_ONCE = 20
IDLE_S = 60


def run(bench):
    count = 100 if bench.quick else INDICES
    outrigger = bench.servers.outrigger("many")
    bench.watch(outrigger)
    empty = outrigger.usage()
    began = time.monotonic()
    create(outrigger.web, count)
    for first in range(0, count, AT_ONCE):
        outrigger.web.expect("POST", "/_bulk", body(first, min(first + AT_ONCE, count)), kind="application/x-ndjson")
    outrigger.web.expect("POST", "/many-*/_refresh")
    outrigger.wait_until_ready(time.monotonic() + 300)
    created = time.monotonic() - began
    settle(bench, below=0.3)
    full = outrigger.usage()
    with machine.Watch(bench.client.processes) as watch:
        time.sleep(10 if bench.quick else IDLE_S)
    bench.servers.stop(outrigger)
    began = time.monotonic()
    again = bench.servers.outrigger("many")
    restarted = again.usage() | {"ready_s": round(again.ready_s, 2)}
    bench.servers.stop(again)
    bench.servers.es.send("DELETE", "/_index_template/many")
    for first in range(0, count, 100):
        names = ",".join(f"many-{number}" for number in range(first, min(first + 100, count)))
        bench.servers.es.send("DELETE", f"/{names}")
    result = {
        "indices": count,
        "created_s": round(created, 1),
        "empty": empty,
        "full": full,
        "more_rss": full["rss"] - empty["rss"],
        "idle_cores": watch.cores,
        "restarted": restarted,
    }
    say(f"{count:,} small indices: {result}")
    return result


def create(web, count):
    """By a template, so that bulk requests make them."""
    vector = {"type": "dense_vector", "dims": 32, "similarity": "l2_norm", "index_options": {"type": "ivf"}}
    settings = {"number_of_shards": 1, "number_of_replicas": 0}
    web.expect("PUT", "/_index_template/many", {"index_patterns": ["many-*"], "template": {"settings": settings, "mappings": {"properties": {"v": vector}}}})


def body(first, end):
    source = np.random.default_rng(first)
    lines = []
    for number in range(first, end):
        for document in range(DOCUMENTS):
            lines.append(f'{{"index":{{"_index":"many-{number}","_id":"{document}"}}}}\n{{"v":{np.round(source.normal(size=32), 3).tolist()}}}\n')
    return "".join(lines).encode()
