"""Passing through: the same requests direct, through nginx, through HAProxy and through Outrigger, in alternating rounds. With TLS the three
proxies speak it to the client, by one certificate and one cipher suite (the client offers no other); Elasticsearch behind them has none here."""

import json
import random
import subprocess
import time

from client import write_requests
from places import ROOT
from proxies import Proxy
from stack import say
from statistics_of import median, summary

INDEX = "bench-passing"
DOCUMENTS = 200
WORDS = "the quick brown fox jumps over a lazy dog while other animals of the forest watch and wonder why".split()

# A round is quiet when processes that are none of the bench's took fewer cores than this during each of its measurements.
QUIET = 0.25
QUIET_ROUNDS = 10


def run(servers, client, quick, options=(), tls=False):
    """Returns the part of the record; `options` go to Outrigger."""
    fill(servers.es)
    certificates = make_certificates(servers.folder / "certs") if tls else None
    if tls:
        options = (*options, "--tls-certificate", certificates / "node.crt", "--tls-key", certificates / "node.key")
    outrigger = servers.outrigger("passing", *options)
    nginx = servers.keep(Proxy("nginx", servers.elasticsearch, servers.folder, certificates))
    haproxy = servers.keep(Proxy("haproxy", servers.elasticsearch, servers.folder, certificates))
    scheme = "https://" if tls else ""
    client.ca = certificates / "ca.crt" if tls else None
    paths = {"direct": servers.elasticsearch} | {name: scheme + proxy.server for name, proxy in (("nginx", nginx), ("haproxy", haproxy), ("outrigger", outrigger))}
    client.processes = {"elasticsearch": servers.es_pid, "nginx": nginx.pid, "haproxy": haproxy.pid, "outrigger": outrigger.pid}
    requests = prepare(servers)
    rounds, seconds = ((3, 3), 0.8) if quick else ((12, 18), 1.5)
    ceiling = client_ceiling(client, paths["nginx"], servers)
    samples = measure(client, paths, requests, rounds, seconds)
    for server in (outrigger, nginx, haproxy):
        servers.stop(server)
    client.processes = {}
    servers.es.expect("DELETE", f"/{INDEX}")
    return {
        "versions": {"nginx": nginx.version, "haproxy": haproxy.version},
        "parameters": {"rounds": {"least": rounds[0], "most": rounds[1]}, "seconds": seconds, "tls": tls, "quiet_below_cores": QUIET},
        "client_ceiling": ceiling,
        "results": {name: conclude([sample for sample in samples if sample["request"] == name]) for name in requests},
        "samples": samples,
    }


def fill(es):
    """Some hundred documents without vectors."""
    es.send("DELETE", f"/{INDEX}")
    settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
    es.expect("PUT", f"/{INDEX}", {"settings": settings, "mappings": {"properties": {"text": {"type": "text"}, "n": {"type": "integer"}}}})
    source = random.Random(1)
    lines = []
    for number in range(DOCUMENTS):
        lines.append(json.dumps({"index": {"_id": str(number)}}))
        lines.append(json.dumps({"n": number, "text": " ".join(source.choices(WORDS, k=60))}))
    es.expect("POST", f"/{INDEX}/_bulk?refresh=true", ("\n".join(lines) + "\n").encode(), kind="application/x-ndjson")
    es.expect("POST", f"/{INDEX}/_forcemerge?max_num_segments=1")


def prepare(servers):
    gets = [("GET", f"/{INDEX}/_doc/{number}?_source=n", b"") for number in range(DOCUMENTS)]
    searches = [("POST", f"/{INDEX}/_search", json.dumps({"query": {"range": {"n": {"gte": first}}}, "size": 9}).encode()) for first in range(DOCUMENTS - 10)]
    return {
        "get a document": write_requests(servers.folder / "get.requests", gets),
        "search, 4 KB answer": write_requests(servers.folder / "search.requests", searches),
    }


def make_certificates(folder):
    """An authority and the certificate that all proxies show."""
    subprocess.run([ROOT / "scripts/certs", folder], stdout=subprocess.DEVNULL, check=True)
    (folder / "node.pem").touch(mode=0o600)
    (folder / "node.pem").write_text((folder / "node.crt").read_text() + (folder / "node.key").read_text())
    return folder


def client_ceiling(client, nginx, servers):
    """What the client reaches where the server does next to nothing: far above what is measured with it."""
    requests = write_requests(servers.folder / "static.requests", [("GET", "/_static", b"")])
    result = client.timed(nginx, requests, 8, 2.0)
    say(f"the client's ceiling (nginx answers from memory): {result['qps']:,.0f} requests/s with {result['client_cores']:.2f} cores of its own")
    return result


def measure(client, paths, requests, rounds, seconds):
    order = list(paths)
    source = random.Random(2)
    # Java compiles what is hot: nothing counts before it has seen both requests.
    for file in requests.values():
        for path, server in paths.items():
            client.timed(server, file, 8, seconds * (4 if path == "direct" else 1), warm_up=0)
    samples = []
    least, most = rounds
    for number in range(most):
        quiet = min(len(quiet_rounds([sample for sample in samples if sample["request"] == name])) for name in requests)
        if number >= least and quiet >= QUIET_ROUNDS:
            break
        source.shuffle(order)
        for name, file in requests.items():
            for connections, duration in ((8, seconds), (1, max(0.6, seconds * 0.5))):
                for path in order:
                    result = client.timed(paths[path], file, connections, duration, warm_up=0.15)
                    samples.append({"round": number, "request": name, "path": path, "at": round(time.time(), 1)} | result)
        say(f"passing through: round {number + 1} of {least} to {most}")
    return samples


def quiet_rounds(samples):
    """The rounds in which hardly anything else ran."""
    loud = {sample["round"] for sample in samples if sample["other_cores"] >= QUIET}
    return sorted({sample["round"] for sample in samples} - loud)


def conclude(samples):
    """Medians per path, and ratios within rounds, where the machine's other load hits all alike."""
    rounds = sorted({sample["round"] for sample in samples})
    by = {(sample["round"], sample["path"], sample["connections"]): sample for sample in samples}
    paths = ("direct", "nginx", "haproxy", "outrigger")
    each = {
        path: {
            "qps": round(median([by[number, path, 8]["qps"] for number in rounds])),
            "p50_us": round(median([by[number, path, 1]["p50_us"] for number in rounds]), 1),
            "p99_us_at_8": round(median([by[number, path, 8]["p99_us"] for number in rounds]), 1),
            "to_direct": summary([by[number, path, 8]["qps"] / by[number, "direct", 8]["qps"] for number in rounds]),
            "added_p50_us": summary([by[number, path, 1]["p50_us"] - by[number, "direct", 1]["p50_us"] for number in rounds], 1),
            "cpu_us_per_request": cpu_per_request([by[number, path, 8] for number in rounds], [path]),
            "cpu_us_per_request_of_all": cpu_per_request([by[number, path, 8] for number in rounds], [path, "elasticsearch", "client"]),
        }
        for path in paths
    }
    better = max(("nginx", "haproxy"), key=lambda path: each[path]["qps"])
    ratios = [by[number, "outrigger", 8]["qps"] / by[number, better, 8]["qps"] for number in rounds]
    strict = [by[number, "outrigger", 8]["qps"] / max(by[number, path, 8]["qps"] for path in ("nginx", "haproxy")) for number in rounds]
    calm = quiet_rounds([sample for sample in samples if sample["connections"] == 8])
    return {
        "paths": each,
        "better_peer": better,
        # On saturated cores throughput is the inverse of the processor time that one request takes in all processes together.
        "cpu_ratio": {path: round(each["direct"]["cpu_us_per_request_of_all"] / each[path]["cpu_us_per_request_of_all"], 3) for path in paths},
        "to_better_peer": summary(ratios),
        "to_haproxy": summary([by[number, "outrigger", 8]["qps"] / by[number, "haproxy", 8]["qps"] for number in rounds]),
        "to_better_peer_of_each_round": summary(strict),
        "to_better_peer_in_quiet_rounds": summary([ratios[rounds.index(number)] for number in calm]),
    }


def cpu_per_request(samples, whose):
    """Processor time: what does not depend so much on who else is busy."""

    def cores(sample, name):
        return sample["client_cores"] if name == "client" else sample["server_cores"].get(name, 0.0)

    return round(median([sum(cores(sample, name) for name in whose) / sample["qps"] * 1e6 for sample in samples]), 1)


def table(part):
    lines = []
    tls = part["parameters"].get("tls", False)
    for name, result in part["results"].items():
        lines += [f"\n### Passing through{' with TLS between client and proxy (direct has none)' if tls else ''}: {name}\n"]
        lines += ["| | req/s, 8 conn. | of direct [95 %] | p50, 1 conn. | added p50 [95 %] | p99, 8 conn. | own CPU per request | CPU of all (proxy, Elasticsearch, client) |", "|---|---|---|---|---|---|---|---|"]
        for path, values in result["paths"].items():
            ratio, added = values["to_direct"], values["added_p50_us"]
            lines.append(
                f"| {path} | {values['qps']:,} | {ratio['median']:.3f} [{ratio['low95']:.3f}–{ratio['high95']:.3f}] | {values['p50_us']:.0f} µs "
                f"| {added['median']:+.0f} µs [{added['low95']:+.0f}–{added['high95']:+.0f}] | {values['p99_us_at_8']:.0f} µs "
                f"| {values['cpu_us_per_request']:.0f} µs | {values['cpu_us_per_request_of_all']:.0f} µs |"
            )
        ratio = result["to_better_peer"]
        line = f"\nOutrigger / {result['better_peer']} (the better peer): **{ratio['median']:.3f}** [{ratio['low95']:.3f}–{ratio['high95']:.3f}]"
        line += f", min {ratio['min']:.3f}, max {ratio['max']:.3f}, {ratio['rounds']} rounds{'' if tls else ' (bar: ≥ 0.95)'}"
        if calm := result["to_better_peer_in_quiet_rounds"]:
            line += f"; in {calm['rounds']} quiet rounds {calm['median']:.3f}"
        if tls:
            to_haproxy = result["to_haproxy"]
            line += f"; Outrigger / HAProxy **{to_haproxy['median']:.3f}** [{to_haproxy['low95']:.3f}–{to_haproxy['high95']:.3f}] (bar: ≥ 1.0)"
        cpu = result["cpu_ratio"]
        line += f"; by processor time alone (all of direct / all of the path): {', '.join(f'{name} {value:.3f}' for name, value in cpu.items())}"
        lines.append(line)
    ceiling = part["client_ceiling"]
    lines.append(f"\nThe client alone reaches {ceiling['qps']:,.0f} req/s (nginx answering from memory on the same cores).")
    return "\n".join(lines)
