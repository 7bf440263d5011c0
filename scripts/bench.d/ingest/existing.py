"""Catching up with an index that exists: how fast it is learnt, against how fast Elasticsearch hands out vectors to somebody who only reads them."""

import json
import threading
import time

import peers
from stack import say
from web import Web

PAGE_BYTES = 4_000_000
STREAMS = (1, 2)
CBOR = {"accept": "application/cbor"}


def run(bench):
    outrigger = bench.servers.outrigger("existing-writer")
    peer = peers.behind(outrigger)
    bench.loaded(peer, lists=False)
    # Its acknowledged refresh is the last thing that this process is asked: another one learns.
    bench.servers.stop(outrigger)
    rounds = 1 if bench.quick else 3
    reads, learns = [], []
    total = len(bench.dataset.base)
    for number in range(rounds):
        for streams in STREAMS:
            reads.append({"streams": streams, "documents_per_s": round(total / read_all(bench, peer.index, streams))})
        began = time.monotonic()
        learner = bench.servers.outrigger(f"existing-{number}")
        learner_peer = peers.behind(learner)
        learner_peer.wait_until_searchable(bench.dataset)
        learns.append({"seconds": round(time.monotonic() - began, 2), "documents_per_s": round(total / (time.monotonic() - began))})
        bench.servers.stop(learner)
    bench.servers.es.send("DELETE", f"/{peer.index}")
    fastest = max(row["documents_per_s"] for row in reads)
    learnt = max(row["documents_per_s"] for row in learns)
    say(f"catching up: {learnt:,} documents/s, Elasticsearch delivers {fastest:,}/s alone")
    return {"reads": reads, "learns": learns, "delivered_per_s": fastest, "learnt_per_s": learnt, "ratio": round(learnt / fastest, 2)}


def read_all(bench, index, streams):
    """Seconds until every vector has come over the wire, as CBOR doc values, read and thrown away."""
    pit = bench.servers.es.expect("POST", f"/{index}/_pit?keep_alive=5m")["id"]
    size = max(1, PAGE_BYTES // (150 + bench.dataset.dims * 5))
    began = time.monotonic()
    documents = []
    threads = [threading.Thread(target=read_slice, args=(bench.servers.node["url"], pit, size, number, streams, documents)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    bench.servers.es.expect("DELETE", "/_pit", {"id": pit})
    if sum(documents) != len(bench.dataset.base):
        raise RuntimeError(f"{sum(documents):,} of {len(bench.dataset.base):,} documents were read")
    return seconds


def read_slice(url, pit, size, number, streams, documents):
    web = Web(url, timeout=120)
    body = {"size": size, "sort": ["_shard_doc"], "track_total_hits": False, "_source": False, "seq_no_primary_term": True, "docvalue_fields": ["v"], "pit": {"id": pit, "keep_alive": "5m"}}
    if streams > 1:
        body["slice"] = {"id": number, "max": streams}
    while True:
        web.connection.request("POST", "/_search", json.dumps(body), {"content-type": "application/json"} | CBOR)
        answer = web.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"a page was refused: {text[:300]}")
        # Each hit has this key once.
        documents.append(text.count(b"g_seq_no"))
        after = last_sort(text)
        if after is None:
            return
        body["search_after"] = [after]


def last_sort(text):
    """The `sort` value of the last hit of a CBOR page, without reading the rest: one integer in an array."""
    place = text.rfind(b"dsort")
    if place < 0:
        return None
    # After the key: the start of an array (of unknown length, or of one), then an unsigned integer.
    value = text[place + 6 :]
    kind, low = value[0] >> 5, value[0] & 31
    if kind != 0:
        raise RuntimeError("the sort value of a page is no unsigned integer")
    if low < 24:
        return low
    width = {24: 1, 25: 2, 26: 4, 27: 8}[low]
    return int.from_bytes(value[1 : 1 + width], "big")
