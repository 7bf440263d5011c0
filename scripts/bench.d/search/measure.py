"""Peers in alternating rounds: every kind of search, each peer at the least effort that reaches the recall."""

import random

import peers
from client import write_requests
from stack import say
from statistics_of import median, summary
from writer import Writer

import kinds
import truth

CONNECTIONS = 8
CANDIDATES = (20, 30, 40, 60, 100, 200, 400, 800, 1600)
FRESH = 5_000
RATE = 1_000
WARM_UP = 6.0


class Measurement:
    """One run over all kinds that were asked for."""

    def __init__(self, bench, names):
        self.bench, self.corpus = bench, bench.dataset
        self.kinds = [kind for kind in kinds.KINDS if kind.name in names]
        self.rounds, self.seconds = (2, 0.5) if bench.quick else (bench.rounds, 1.5)
        self.random = random.Random(3)
        self.salt = 0

    def run(self):
        servers = self.bench.servers
        outrigger = servers.outrigger("search")
        self.bench.watch(outrigger)
        everyone = peers.all_of(servers, outrigger)
        for peer in everyone:
            self.bench.loaded(peer)
            say(f"{peer.name} is loaded")
        # Elasticsearch fetches for Outrigger, too: merged as the others are.
        servers.es.expect("POST", f"/{everyone[-1].index}/_forcemerge?max_num_segments=1")
        everyone[-1].wait_until_searchable(self.corpus)
        rows = []
        if any(kind.name == "source_cold" for kind in self.kinds):
            self.cold = servers.outrigger("cold", "--document-cache", "0")
            self.wait_for_cold(everyone[-1])
        chosen = {}
        for kind in self.kinds:
            rows.append(self.compare(kind, everyone, self.choose(kind, everyone, chosen)))
        busy = [row for row in rows if row["kind"] in dict(kinds.BUSY)]
        for row in busy:
            rows.append(self.while_written(row, everyone))
        passing = self.passing(everyone[-1])
        usage = outrigger.usage()
        return {"dataset": self.corpus.describe(), "rows": rows, "passing": passing, "usage": usage}

    def wait_for_cold(self, peer):
        cold = peers.behind(self.cold)
        cold.wait_until_searchable(self.corpus)
        cold.wait_for_lists()

    def choose(self, kind, everyone, chosen):
        """Least effort with enough recall, per peer; kinds that differ only in what is done with the hits share it."""
        key = (kind.judged, kind.recall)
        if key not in chosen:
            model = kinds.IDS if kind.judged is None else kind
            chosen[key] = {peer.name: self.least(model, peer) for peer in everyone}
            say(f"recall {kind.recall} for {kind.name}: {chosen[key]}")
        return chosen[key]

    def least(self, kind, peer):
        best = None
        for candidates in (None, *CANDIDATES) if peer.outrigger else CANDIDATES:
            path = self.bench.servers.folder / "recall.requests"
            write_requests(path, kinds.requests(kind, self.corpus, peer.index, candidates, count=len(self.corpus.queries)))
            point = {"num_candidates": candidates, "recall": truth.recall(kind, self.corpus, self.bench.client.hits(peer.server, path, 4))}
            if best is None or point["recall"] > best["recall"]:
                best = point
            if point["recall"] >= kind.recall:
                return point
        return best

    def compare(self, kind, everyone, settings):
        """All peers in alternating rounds, and within each round Outrigger against the best of the others that reach the recall."""
        say(f"{kind.name}: {kind.title}")
        files = {} if kind.fresh else {peer.name: self.file(kind, peer, settings) for peer in everyone}
        ways = [self.way(kind, everyone[-1], settings)]
        if not kind.fresh:
            for peer in everyone:
                # As in the middle of a day: Java compiles what is hot for many seconds, and answers faster and faster meanwhile.
                self.bench.client.timed(self.server(kind, peer), files[peer.name], CONNECTIONS, 1.0 if self.bench.quick else WARM_UP)
        samples = []
        for number in range(self.rounds):
            order = list(everyone)
            self.random.shuffle(order)
            for peer in order:
                path = files.get(peer.name) or self.file(kind, peer, settings)
                samples.append(self.sample(kind, peer, path, number))
        ways.append(self.way(kind, everyone[-1], settings))
        return {"kind": kind.name, "title": kind.title, "bar": kind.bar, "settings": settings, "ways": ways} | conclude(samples, settings, kind.recall)

    def sample(self, kind, peer, path, number, **options):
        timed = self.bench.client.timed(self.server(kind, peer), path, CONNECTIONS, self.seconds, **options)
        return {"round": number, "peer": peer.name, "per_s": timed["qps"] * kind.searches} | timed

    def server(self, kind, peer):
        return self.cold.server if kind.name == "source_cold" and peer.outrigger else peer.server

    def file(self, kind, peer, settings):
        path = self.bench.servers.folder / f"{kind.name}-{peer.name}.requests"
        count = FRESH if kind.fresh else None
        write_requests(path, kinds.requests(kind, self.corpus, peer.index, settings[peer.name]["num_candidates"], self.salt, count))
        if kind.fresh:
            self.salt += FRESH
        return path

    def way(self, kind, peer, settings):
        """Who answers, in Outrigger's own words."""
        self.salt += 1
        _, path, body = next(kinds.requests(kind, self.corpus, peer.index, settings[peer.name]["num_candidates"], self.salt))
        web = self.cold.web if kind.name == "source_cold" else peer.web
        return web.send("POST", path, body, headers={"x-outrigger-explain": "true"})[1].get("x-outrigger", "unknown")

    def while_written(self, idle, everyone):
        """The same searches while documents arrive."""
        kind = next(kind for kind in kinds.KINDS if kind.name == idle["kind"])
        bodies = self.bench.bodies(20_000)
        samples = []
        for number in range(self.rounds):
            for peer in everyone:
                path = self.file(kind, peer, idle["settings"])
                with Writer(peer.web.url, peer.index, bodies, RATE) as writer:
                    samples.append(self.sample(kind, peer, path, number, warm_up=1.5))
                samples[-1]["written_per_s"] = round(writer.rate)
        row = {"kind": f"{kind.name}_busy", "title": f"{kind.title}, while {RATE:,} documents/s arrive", "bar": dict(kinds.BUSY)[kind.name], "settings": idle["settings"], "ways": []}
        return row | conclude(samples, idle["settings"], kind.recall)

    def passing(self, peer):
        """What a search that is none of ours loses on its way: the median latency at one connection, direct and through."""
        path = self.bench.servers.folder / "passing.requests"
        bodies = (kinds.json.dumps({"query": {"match": {"text": question}}, "_source": False}).encode() for question in self.corpus.questions)
        write_requests(path, (("POST", f"/{peer.index}/_search", body) for body in bodies))
        added = []
        for _ in range(2 * self.rounds):
            direct, through = (self.bench.client.timed(server, path, 1, self.seconds)["p50_us"] for server in (self.bench.servers.elasticsearch, peer.server))
            added.append(through - direct)
        return {"added_p50_us": summary(added, 1)}


def conclude(samples, settings, target):
    """Medians of each peer, and the ratio to the best of the others within each round."""
    rows = []
    for name in dict.fromkeys(sample["peer"] for sample in samples):
        mine = [sample for sample in samples if sample["peer"] == name]
        values = {key: round(median([sample[key] for sample in mine]), 1) for key in ("per_s", "p50_us", "p99_us")}
        cores = {key: round(median([s["server_cores"][key] for s in mine]), 2) for key in mine[0]["server_cores"]}
        rows.append({"peer": name, "server_cores": cores, "client_cores": round(median([s["client_cores"] for s in mine]), 2)} | values)
    rivals = [row for row in rows if row["peer"] != "outrigger" and settings[row["peer"]]["recall"] >= target]
    if not rivals:
        return {"rows": rows, "best": None, "ratio": None, "samples": samples}
    best = max(rivals, key=lambda row: row["per_s"])["peer"]
    by_round = {name: {s["round"]: s["per_s"] for s in samples if s["peer"] == name} for name in ("outrigger", best)}
    ratio = summary([by_round["outrigger"][number] / rate for number, rate in by_round[best].items()], 2)
    return {"rows": rows, "best": best, "ratio": ratio, "samples": samples}
