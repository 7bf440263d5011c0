"""From a refresh around Outrigger until its searches show it: with nothing else going on, and while documents arrive."""

import time

import numpy as np
import peers
from stack import Stop, say
from writer import Writer

RATE = 1_000
TRIES = 300
GIVEN_UP_AFTER = 10
WRITTEN = 20_000


def run(bench):
    outrigger = bench.servers.outrigger("publication")
    bench.watch(outrigger)
    peer = peers.behind(outrigger)
    bench.loaded(peer)
    tries = 30 if bench.quick else TRIES
    # One stream of vectors: two documents with one vector would hide each other.
    vectors = np.random.default_rng(5)
    result = {"tries": tries, "quiet": delays(bench, peer, vectors, [f"quiet-{number}" for number in range(tries)])}
    with Writer(peer.web.url, peer.index, bench.bodies(WRITTEN), RATE) as writer:
        result["while_written"] = delays(bench, peer, vectors, [f"busy-{number}" for number in range(tries)])
    result["rate"] = round(writer.rate)
    peer.drop()
    bench.servers.stop(outrigger)
    say(f"publication after a refresh elsewhere: {result}")
    return result


def delays(bench, peer, vectors, names):
    """Milliseconds from the acknowledgement of Elasticsearch's refresh until a search here finds the document."""
    found = []
    for name in names:
        vector = vectors.normal(size=bench.dataset.dims).astype(np.float32)
        text = "[" + ",".join(map(str, vector.tolist())) + "]"
        search = f'{{"knn":{{"field":"v","query_vector":{text},"k":1,"num_candidates":50}},"size":1,"_source":false}}'.encode()
        bench.servers.es.expect("PUT", f"/{peer.index}/_doc/{name}", f'{{"v":{text}}}'.encode())
        # The refresh begins after this.
        bench.servers.es.expect("POST", f"/{peer.index}/_refresh")
        began = time.monotonic()
        while True:
            hits = peer.web.expect("POST", f"/{peer.index}/_search", search)["hits"]["hits"]
            took = time.monotonic() - began
            if hits and hits[0]["_id"] == name:
                break
            if took > GIVEN_UP_AFTER:
                raise Stop(f"document {name} was not found within {GIVEN_UP_AFTER} s of its refresh")
        found.append(took * 1000)
    found.sort()
    share = lambda part: round(found[round((len(found) - 1) * part)], 1)  # noqa: E731
    return {"p50_ms": share(0.5), "p90_ms": share(0.9), "p99_ms": share(0.99), "max_ms": share(1.0)}
