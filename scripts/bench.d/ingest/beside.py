"""Searches while documents arrive: Outrigger's and int8_hnsw's, under the same load, against their own speed when nothing arrives."""

import peers
from client import write_requests
from stack import say
from statistics_of import median
from writer import Writer

RATE = 1_000
CONNECTIONS = 8
SECONDS = 4.0
NATIVE = "int8_hnsw"
# Each at a setting that reaches recall 0.95 on the sets of the bench; the recall is in the record.
CANDIDATES = {"outrigger": None, NATIVE: 50}


def run(bench):
    outrigger = bench.servers.outrigger("beside")
    bench.watch(outrigger)
    everyone = [peer for peer in peers.all_of(bench.servers, outrigger) if peer.name in CANDIDATES]
    kinds = {}
    for peer in everyone:
        bench.loaded(peer)
        path = bench.servers.folder / f"beside-{peer.name}.requests"
        kinds[peer.name] = write_requests(path, bench.dataset.search_requests(peer.index, CANDIDATES[peer.name], False))
    recalls = {peer.name: bench.dataset.recall(bench.client.hits(peer.server, kinds[peer.name], 4)) for peer in everyone}
    bodies = bench.bodies(20_000)
    samples = []
    for number in range(2 if bench.quick else bench.rounds):
        for peer in everyone:
            timed = bench.client.timed(peer.server, kinds[peer.name], CONNECTIONS, SECONDS)
            samples.append({"round": number, "peer": peer.name, "written": 0} | timed)
            with Writer(peer.web.url, peer.index, bodies, RATE) as writer:
                timed = bench.client.timed(peer.server, kinds[peer.name], CONNECTIONS, SECONDS, warm_up=1.0)
            samples.append({"round": number, "peer": peer.name, "written": round(writer.rate)} | timed)
    for peer in everyone:
        peer.drop()
    bench.servers.stop(outrigger)
    rows = conclude(samples)
    say(f"searches while documents arrive: {rows}")
    return {"recalls": recalls, "rows": rows, "samples": samples}


def conclude(samples):
    rows = []
    for name in CANDIDATES:
        for busy in (False, True):
            mine = [sample for sample in samples if sample["peer"] == name and bool(sample["written"]) == busy]
            rows.append({"peer": name, "written_per_s": median([s["written"] for s in mine])} | {key: round(median([s[key] for s in mine]), 1) for key in ("qps", "p50_us", "p99_us")})
    return rows
