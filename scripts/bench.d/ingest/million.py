"""A million vectors: what an audit without differences costs Elasticsearch, and how long a restart takes."""

import re
import time
import urllib.request

import machine
import numpy as np
import peers
from client import write_requests
from load import settle
from stack import say

MILLION = 1_000_000
BULK = 500
AT_ONCE = 50_000
AUDITS = 30
UNWATCHED = "unwatched"


def run(bench):
    count = 20_000 if bench.quick else MILLION
    outrigger = bench.servers.outrigger("million")
    bench.watch(outrigger)
    peer = peers.behind(outrigger)
    loaded = fill(bench, peer, count)
    peer.wait_for_lists()
    settle(bench)
    result = {"documents": count, "dims": bench.dataset.dims, "loaded_s": round(loaded, 1), "usage": peer.usage(bench.servers), "audit": audits(bench, peer)}
    bench.servers.stop(outrigger)
    result["restart"] = restarts(bench, peer, count)
    bench.servers.es.send("DELETE", f"/{peer.index}")
    say(f"a million vectors: {result}")
    return result


def fill(bench, peer, count):
    """Documents near those of the set, written in pieces, so that no file holds them all. Returns the seconds that the servers worked."""
    peer.create(bench.dataset)
    source = np.random.default_rng(11)
    seconds = 0.0
    for first in range(0, count, AT_ONCE):
        path = write_requests(bench.servers.folder / "million.requests", pieces(bench.dataset, source, peer.index, first, min(first + AT_ONCE, count)))
        seconds += bench.client.once(peer.server, path, 4, "application/x-ndjson")["seconds"]
        if first % 200_000 == 0:
            say(f"{first:,} of {count:,} written")
    began = time.monotonic()
    peer.web.expect("POST", f"/{peer.index}/_refresh")
    while not peer.caught_up(count):
        time.sleep(0.05)
    return seconds + time.monotonic() - began


def pieces(dataset, source, index, first, end):
    """Bulk requests of vectors of the set, moved a little."""
    for start in range(first, end, BULK):
        numbers = np.arange(start, min(start + BULK, end))
        rows = dataset.base[numbers % len(dataset.base)].astype(np.float32)
        rows += source.normal(size=rows.shape, scale=np.abs(rows).mean() / 4).astype(np.float32)
        lines = []
        for number, row in zip(numbers.tolist(), np.round(rows, 4).tolist()):
            lines.append(f'{{"index":{{"_id":"{number}"}}}}\n{{"title":"document {number}","v":{row}}}\n')
        yield "POST", f"/{index}/_bulk", "".join(lines).encode()


def audits(bench, peer):
    """Elasticsearch's processor time for a write, its refresh and the look that follows, less the same without anybody looking."""
    settle(bench)
    watched, seconds = per_round(bench, lambda number: watched_round(bench, peer, number))
    settle(bench)
    alone, _ = per_round(bench, lambda number: unwatched_round(bench, number, seconds))
    bench.servers.es.send("DELETE", f"/{UNWATCHED}")
    return {"rounds": AUDITS, "with_audit_s": watched, "without_s": alone, "audit_s": round(max(0.0, watched - alone), 4)}


def per_round(bench, one):
    """Elasticsearch's processor time and the time on the clock."""
    before, began = machine.cpu_seconds(bench.servers.es_pid), time.monotonic()
    for number in range(AUDITS):
        one(number)
    return round((machine.cpu_seconds(bench.servers.es_pid) - before) / AUDITS, 4), (time.monotonic() - began) / AUDITS


def watched_round(bench, peer, number):
    pulls = pulls_of(peer.outrigger)
    document = {"title": f"round {number}", "v": bench.dataset.base[0].astype(float).tolist()}
    bench.servers.es.expect("PUT", f"/{peer.index}/_doc/0", document)
    bench.servers.es.expect("POST", f"/{peer.index}/_refresh")
    while pulls_of(peer.outrigger) == pulls:
        time.sleep(0.005)


def unwatched_round(bench, number, seconds):
    due = time.monotonic() + seconds
    bench.servers.es.expect("PUT", f"/{UNWATCHED}/_doc/0", {"title": f"round {number}"})
    bench.servers.es.expect("POST", f"/{UNWATCHED}/_refresh")
    time.sleep(max(0.0, due - time.monotonic()))


def pulls_of(outrigger):
    """Asked of the admin port, which asks nobody."""
    with urllib.request.urlopen(f"http://{outrigger.admin}/metrics", timeout=5) as answer:
        return re.search(rb"^outrigger_feed_pulls_total (\d+)", answer.read(), re.MULTILINE)[1]


def restarts(bench, peer, count):
    """From the start of the process until it says that it is ready; the first after a proper stop, the second after a kill."""
    found = {}
    for how in ("stopped", "killed"):
        again = bench.servers.outrigger("million")
        shard = peers.behind(again).shard()
        found[how] = {"ready_s": round(again.ready_s, 2), "docs": shard["docs"], "build": shard["build"]}
        if shard["docs"] != count:
            raise RuntimeError(f"after a restart {shard['docs']:,} of {count:,} documents are there")
        if how == "stopped":
            again.kill()
        bench.servers.stop(again)
    return found
