"""A tenant's latency, alone and while its neighbour offers ten times what it may."""

import concurrent.futures

from stack import say
from statistics_of import median, summary

import world

# What the quiet one asks per second, and what the noisy one may.
QUIET = {"knn": 200, "bulk": 10}
NOISY = {"knn": 200, "bulk": 10}
TIMES = 10


def run(here):
    outrigger = here.outrigger("neighbours", {"quiet": {}, "noisy": {kind: world.per_second(rate) for kind, rate in NOISY.items()}})
    here.client.processes = {"outrigger": outrigger.pid, "elasticsearch": here.servers.es_pid}
    peer = here.peer(outrigger)
    files = {"knn": here.knn(peer.index), "bulk": here.writes(peer.index)}
    rows = [compare(here, peer, files, kind) for kind in files]
    here.servers.stop(outrigger)
    return {"rows": rows, "times": TIMES}


def compare(here, peer, files, kind):
    """Alone, while the neighbour keeps to its limit, and while it does not, in alternating rounds."""
    offers = {"alone": 0, "within": NOISY[kind], "flood": NOISY[kind] * TIMES}
    seconds = here.seconds * 2
    load(here, peer, files[kind], kind, "quiet", QUIET[kind], seconds)
    samples = []
    for number in range(here.rounds):
        for name, offered in offers.items():
            samples.append({"round": number, "setting": name} | together(here, peer, files[kind], kind, offered, seconds))
    by = {(sample["round"], sample["setting"]): sample for sample in samples}
    ratios = {name: summary([by[number, name]["p99_us"] / by[number, "alone"]["p99_us"] for number in range(here.rounds)], 2) for name in ("within", "flood")}
    rows = {name: {key: round(median([s[key] for s in samples if s["setting"] == name]), 1) for key in ("p50_us", "p99_us", "noisy_admitted", "noisy_refused")} for name in offers}
    say(f"{kind}: p99 {ratios['flood']['median']} of alone while flooded, {ratios['within']['median']} while the neighbour keeps to its limit")
    return {"kind": kind, "quiet_per_s": QUIET[kind], "noisy_limit": NOISY[kind], "settings": rows, "ratios": ratios, "samples": samples}


def together(here, peer, file, kind, offered, seconds):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        noisy = pool.submit(load, here, peer, file, kind, "noisy", offered, seconds + 1.0) if offered else None
        quiet = load(here, peer, file, kind, "quiet", QUIET[kind], seconds)
        other = noisy.result() if noisy else {"qps": 0.0, "errors_per_s": 0.0}
    if quiet["errors"]:
        raise RuntimeError(f"{quiet['errors']} requests of the quiet tenant failed")
    return {"p50_us": quiet["p50_us"], "p99_us": quiet["p99_us"], "noisy_admitted": other["qps"], "noisy_refused": other["errors_per_s"]}


def load(here, peer, file, kind, tenant, rate, seconds):
    options = ["--rate", str(rate), *world.header(tenant)]
    content_type = "application/x-ndjson" if kind == "bulk" else "application/json"
    return here.client.offered(peer.server, file, 8, seconds, warm_up=0.5, options=[*options, "--content-type", content_type])
