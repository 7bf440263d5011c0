"""Bulk until searchable, with 1 and with 4 clients, beside each of Elasticsearch's index types; then what a document costs an index that is trained."""

import time

import loading
import machine
import peers
from stack import say

# A field without any graph: what Elasticsearch needs for the documents alone.
PLAIN = "flat"
STEADY = 20_000


def run(bench):
    """Every peer in turn. A merge takes what it takes, so it is measured once."""
    rows = []
    outrigger = bench.servers.outrigger("load")
    bench.watch(outrigger)
    for clients in (4,) if bench.quick else (1, 4):
        for peer in [peers.Peer(PLAIN, bench.servers.elasticsearch, bench.servers.es), *peers.all_of(bench.servers, outrigger)]:
            merge = peer.name in peers.ELASTICSEARCH and clients == 1
            rows.append(loading.load(bench.servers, bench.client, peer, bench.dataset, clients, merge))
            if peer.outrigger and clients == 4:
                steady = cost_when_trained(bench, peer)
            peer.drop()
    bench.servers.stop(outrigger)
    return {"dataset": bench.dataset.describe(), "rows": rows, "ratios": ratios(rows), "steady": steady}


def ratios(rows):
    """Documents per second, merge included, as a multiple of each peer's with the same number of clients."""
    merges = {row["peer"]: row["merge_s"] for row in rows if "merge_s" in row}
    found = []
    for clients in sorted({row["clients"] for row in rows}):
        mine = {row["peer"]: row["searchable_s"] + merges.get(row["peer"], 0.0) for row in rows if row["clients"] == clients}
        for name, seconds in mine.items():
            if name != "outrigger":
                found.append({"clients": clients, "peer": name, "seconds": round(seconds, 1), "of": round(seconds / mine["outrigger"], 2)})
    return found


def cost_when_trained(bench, peer):
    """Processor time of both processes for documents that are added to a trained index, until they are published."""
    count = min(STEADY, len(bench.dataset.base))
    requests = bench.bulks(peer.index, range(count), first_id=1_000_000)
    settle(bench)
    with machine.Watch(bench.client.processes) as watch:
        began = time.monotonic()
        bench.client.once(peer.server, requests, 4, "application/x-ndjson")
        peer.web.expect("POST", f"/{peer.index}/_refresh")
        seconds = time.monotonic() - began
    micros = {name: round(cores * seconds / count * 1e6, 1) for name, cores in watch.cores.items()}
    say(f"each of {count:,} documents more cost {micros['outrigger']:.0f} µs of Outrigger and {micros['elasticsearch']:.0f} µs of Elasticsearch")
    return {"documents": count, "documents_per_s": round(count / seconds), "cpu_us": micros, "shard": peer.shard()}


def settle(bench, below=0.05, within=60):
    """Waits until neither server works on what came before."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with machine.Watch(bench.client.processes) as watch:
            time.sleep(1)
        if all(cores < below for cores in watch.cores.values()):
            return
