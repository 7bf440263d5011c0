"""Refusals per second, beside a bare responder on the same HTTP library that sends the same bytes."""

import json
import random

from ports import free_ports
from process import Process, listens
from stack import say
from statistics_of import median, summary

import world


def run(here):
    outrigger = here.outrigger("refusals", {"shut": {"knn": world.per_second(1)}})
    requests = here.small(outrigger)
    headers, body = refusal(outrigger)
    bare = Bare(here.client.binary, headers, body, here.servers.folder / "bare.log")
    here.servers.keep(bare)
    here.client.processes = {"outrigger": outrigger.pid, "bare": bare.pid}
    peers = {"bare": bare.server, "outrigger": outrigger.server}
    source = random.Random(4)
    samples = []
    for number in range(2 * here.rounds):
        order = list(peers)
        source.shuffle(order)
        for name in order:
            result = here.client.offered(peers[name], requests, 8, here.seconds / 2, warm_up=0.3, options=world.header("shut"))
            samples.append({"round": number, "peer": name, "per_s": result["errors_per_s"], "client_cores": result["client_cores"], "server_cores": result["server_cores"][name]})
    for server in (outrigger, bare):
        here.servers.stop(server)
    by = {(sample["round"], sample["peer"]): sample["per_s"] for sample in samples}
    ratio = summary([by[number, "outrigger"] / by[number, "bare"] for number in range(2 * here.rounds)])
    rows = {name: {key: round(median([s[key] for s in samples if s["peer"] == name]), 2) for key in ("per_s", "client_cores", "server_cores")} for name in peers}
    say(f"refusals: {rows}, ratio {ratio['median']}")
    return {"body": body, "rows": rows, "ratio": ratio, "samples": samples}


def refusal(outrigger):
    """Headers and body of a refusal, once the tenant's limit is reached."""
    for _ in range(1_000):
        status, headers, body = outrigger.web.send("POST", "/bench-small/_search", {"knn": {"field": "v", "query_vector": [1, 2, 3, 1], "k": 1}}, headers={world.HEADER: "shut"})
        if status == 429:
            headers.pop("content-length")
            return headers, json.dumps(body, separators=(",", ":"))
    raise RuntimeError("the tenant was never refused")


class Bare(Process):
    """The responder, as many threads as Outrigger has workers."""

    def __init__(self, loadgen, headers, body, log):
        self.server = f"127.0.0.1:{free_ports(0)[0]}"
        command = [loadgen, "respond", "--listen", self.server, "--status", "429", "--body", body, "--threads", "2"]
        command += [part for name, value in headers.items() for part in ("--header", f"{name}:{value}")]
        super().__init__("the bare responder", command, log)
        self.wait_until(lambda: listens(self.server), within=10)
