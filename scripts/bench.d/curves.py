"""Searches: throughput and latency against recall, peers in alternating rounds."""

import math
import random

import loading
import peers
from client import write_requests
from stack import say
from statistics_of import median, summary

TARGET = 0.95
SOURCES = {"none": False, "title": ["title"]}
# Values of num_candidates; None is the default of each. A peer goes up until it is past the target twice.
CANDIDATES = {"outrigger": (None, 20, 50, 100, 200), "other": (None, 20, 30, 40, 60, 100, 200, 400, 800)}
UNMERGED_CANDIDATES = 50


def run(servers, client, datasets, quick, rounds=5):
    """Loads every peer with 4 clients, then measures. Returns the part of the record."""
    return {dataset.name: Searches(servers, client, dataset, quick, rounds).run() for dataset in datasets}


class Searches:
    """One set of vectors."""

    def __init__(self, servers, client, dataset, quick, rounds):
        self.servers, self.client, self.dataset = servers, client, dataset
        self.rounds, self.seconds = (2, 0.5) if quick else (rounds, 1.5)
        self.quick = quick
        self.source = random.Random(3)

    def run(self):
        outrigger = self.servers.outrigger(f"search-{self.dataset.name}")
        self.client.processes = {"elasticsearch": self.servers.es_pid, "outrigger": outrigger.pid}
        everyone = peers.all_of(self.servers, outrigger)
        loaded = [loading.load(self.servers, self.client, peer, self.dataset, 4, merge=True, before_merge=self.unmerged) for peer in everyone]
        ways = {source: self.way(everyone[-1], source) for source in SOURCES}
        curves = {peer.name: self.recalls(peer) for peer in everyone}
        curve_samples = self.measure([(peer, point["num_candidates"], "none", 8) for peer in everyone for point in curves[peer.name]])
        for peer in everyone:
            for point in curves[peer.name]:
                point["qps"] = round(median([s["qps"] for s in curve_samples if s["peer"] == peer.name and s["num_candidates"] == point["num_candidates"]]), 1)
        chosen = {peer.name: choose(curves[peer.name]) for peer in everyone}
        entrants = [(peer, chosen[peer.name]["num_candidates"]) for peer in everyone if chosen[peer.name]]
        if chosen["outrigger"] and chosen["outrigger"]["num_candidates"] is not None:
            entrants.append((everyone[-1], None))
        final_samples = self.measure([(peer, candidates, source, connections) for peer, candidates in entrants for source in SOURCES for connections in (8, 1)])
        fetched = self.fetch_from_merged(everyone, entrants, final_samples)
        usage = {peer.name: peer.usage(self.servers) for peer in everyone}
        for peer in everyone:
            peer.drop()
        self.servers.stop(outrigger)
        self.client.processes = {}
        return {
            "dataset": self.dataset.describe(),
            "parameters": {"target_recall": TARGET, "rounds": self.rounds, "seconds": self.seconds},
            "ingest": loaded,
            "ways": ways,
            "curves": curves,
            "chosen": chosen,
            "at_target": {peer.name: interpolate(curves[peer.name]) for peer in everyone},
            "results": conclude(final_samples),
            "fetch_from_merged": fetched,
            "usage": usage,
            "samples": curve_samples + final_samples,
        }

    def fetch_from_merged(self, everyone, entrants, samples):
        """With `_source`, Elasticsearch fetches Outrigger's hits too, and searches many segments for them: so once more after a merge, as the peers had."""
        natives = [row for row in conclude(samples) if row["peer"] in peers.ELASTICSEARCH and row["source"] == "title" and row["connections"] == 8]
        outriggers = [(peer, candidates, "title", 8) for peer, candidates in entrants if peer.outrigger]
        if self.quick or not natives or not outriggers:
            return None
        best = max(natives, key=lambda row: row["qps"])["peer"]
        self.servers.es.expect("POST", f"/{everyone[-1].index}/_forcemerge?max_num_segments=1")
        everyone[-1].wait_until_searchable(self.dataset)
        native = [(peer, candidates, "title", 8) for peer, candidates in entrants if peer.name == best]
        return conclude(self.measure(outriggers[:1] + native))

    def requests(self, peer, candidates, source):
        path = self.servers.folder / f"{self.dataset.name}-{peer.name}-{candidates}-{source}.requests"
        if not path.exists():
            write_requests(path, self.dataset.search_requests(peer.index, candidates, SOURCES[source]))
        return path

    def recall(self, peer, candidates):
        return self.dataset.recall(self.client.hits(peer.server, self.requests(peer, candidates, "none"), 4))

    def unmerged(self, peer):
        """A peer that is not merged yet, at one effort; Outrigger needs no merge."""
        if peer.outrigger or self.quick:
            return None
        result = {"num_candidates": UNMERGED_CANDIDATES, "recall": self.recall(peer, UNMERGED_CANDIDATES)}
        timed = self.client.timed(peer.server, self.requests(peer, UNMERGED_CANDIDATES, "none"), 8, 2.0)
        return result | {"qps": round(timed["qps"], 1)}

    def way(self, peer, source):
        """Who answers, in Outrigger's own words."""
        _, path, body = next(self.dataset.search_requests(peer.index, None, SOURCES[source]))
        return peer.web.send("POST", path, body, headers={"x-outrigger-explain": "true"})[1].get("x-outrigger", "unknown")

    def recalls(self, peer):
        """The settings worth timing: around the target, and the default. Sending every query once also warms the peer up."""
        points = []
        for candidates in CANDIDATES.get(peer.name, CANDIDATES["other"]):
            points.append({"num_candidates": candidates, "recall": self.recall(peer, candidates)})
            if not peer.outrigger and sum(point["recall"] >= TARGET for point in points) == 2:
                break
        say(f"{self.dataset.name}, {peer.name}: recall by num_candidates {[(point['num_candidates'], point['recall']) for point in points]}")
        if peer.outrigger:
            return points
        below = [point for point in points[1:] if point["recall"] < TARGET]
        return [points[0], *below[-1:], *[point for point in points[1:] if point["recall"] >= TARGET]]

    def measure(self, entrants):
        samples = []
        for number in range(self.rounds):
            self.source.shuffle(entrants)
            for peer, candidates, source, connections in entrants:
                timed = self.client.timed(peer.server, self.requests(peer, candidates, source), connections, self.seconds)
                samples.append({"round": number, "peer": peer.name, "num_candidates": candidates, "source": source} | timed)
        say(f"{self.dataset.name}: {len(entrants)} kinds of searches measured in {self.rounds} rounds")
        return samples


def choose(points):
    """The fastest setting that reaches the target."""
    good = [point for point in points if point["recall"] >= TARGET]
    return max(good, key=lambda point: point["qps"]) if good else None


def interpolate(points):
    """Throughput at exactly the target: on the logarithm, between the nearest settings on both sides; None where one side is missing."""
    below = [point for point in points if point["recall"] < TARGET]
    above = [point for point in points if point["recall"] >= TARGET]
    if not below or not above:
        return None
    low, high = max(below, key=lambda point: point["recall"]), min(above, key=lambda point: point["recall"])
    share = (TARGET - low["recall"]) / (high["recall"] - low["recall"])
    return round(math.exp(math.log(low["qps"]) * (1 - share) + math.log(high["qps"]) * share), 1)


def conclude(samples):
    """Medians, and within each round Outrigger against the best Elasticsearch type at its chosen setting."""
    results = []
    kinds = sorted({(s["peer"], s["num_candidates"], s["source"], s["connections"]) for s in samples}, key=str)
    for peer, candidates, source, connections in kinds:
        mine = [s for s in samples if (s["peer"], s["num_candidates"], s["source"], s["connections"]) == (peer, candidates, source, connections)]
        values = {name: round(median([sample[name] for sample in mine]), 1) for name in ("qps", "p50_us", "p99_us")}
        cores = {name: round(median([s["server_cores"][name] for s in mine]), 2) for name in mine[0]["server_cores"]}
        client_cores = round(median([sample["client_cores"] for sample in mine]), 2)
        row = {"peer": peer, "num_candidates": candidates, "source": source, "connections": connections}
        results.append(row | values | {"server_cores": cores, "client_cores": client_cores})
    for row in results:
        same = [other for other in results if (other["source"], other["connections"]) == (row["source"], row["connections"])]
        natives = [other for other in same if other["peer"] in peers.ELASTICSEARCH]
        if row["peer"] != "outrigger" or not natives:
            continue
        best = max(natives, key=lambda other: other["qps"])
        by_round = {kind["peer"]: {s["round"]: s["qps"] for s in samples if matches(s, kind)} for kind in (row, best)}
        row["best_native"] = best["peer"]
        row["to_best_native"] = summary([by_round["outrigger"][number] / qps for number, qps in by_round[best["peer"]].items()], 2)
    return results


def matches(sample, kind):
    return all(sample[key] == kind[key] for key in ("peer", "num_candidates", "source", "connections"))


def table(part):
    lines = []
    for name, result in part.items():
        lines += loading.rows_table(f"Ingest before the searches: {name}", result["ingest"], result["dataset"])
        lines += curve_table(name, result)
        lines += final_table(name, result)
    return "\n".join(lines)


def curve_table(name, result):
    lines = [f"\n### Searches: {name}, recall@10 and queries/s, 8 connections, `_source:false`\n", "| peer | num_candidates → recall, queries/s | at recall 0.95 (interpolated) |", "|---|---|---|"]
    for peer, points in result["curves"].items():
        text = "; ".join(f"{point['num_candidates'] or 'default'} → {point['recall']:.3f}, {point['qps']:,.0f}" for point in points)
        at_target = result["at_target"][peer]
        lines.append(f"| {peer} | {text} | {f'{at_target:,.0f}' if at_target else '–'} |")
    for row in result["ingest"]:
        if unmerged := row.get("unmerged"):
            lines.append(f"\nNot merged, {row['peer']} ({row['segments']} segments), num_candidates {unmerged['num_candidates']}: recall {unmerged['recall']:.3f}, {unmerged['qps']:,.0f} queries/s.")
    return lines


def final_table(name, result):
    lines = [f"\n### Searches: {name}, each at its fastest setting with recall ≥ {TARGET}\n"]
    lines.append(f"Outrigger's way without `_source`: {result['ways']['none']}; with a title: {result['ways']['title']}.\n")
    lines += ["| peer | num_candidates | recall@10 | `_source` | connections | queries/s | p50 | p99 | of the best native [95 %] | cores: Elasticsearch, Outrigger, client |", "|---|---|---|---|---|---|---|---|---|---|"]
    recalls = {(peer, point["num_candidates"]): point["recall"] for peer, points in result["curves"].items() for point in points}
    for row in sorted(result["results"], key=lambda row: (row["source"], -row["connections"], -row["qps"])):
        ratio = row.get("to_best_native")
        against = f"{ratio['median']:.2f}× [{ratio['low95']:.2f}–{ratio['high95']:.2f}] {row['best_native']}" if ratio else ""
        cores = row["server_cores"]
        lines.append(
            f"| {row['peer']} | {row['num_candidates'] or 'default'} | {recalls[row['peer'], row['num_candidates']]:.3f} | {row['source']} | {row['connections']} "
            f"| {row['qps']:,.0f} | {row['p50_us'] / 1000:.2f} ms | {row['p99_us'] / 1000:.2f} ms | {against} "
            f"| {cores['elasticsearch']:.2f}, {cores['outrigger']:.2f}, {row['client_cores']:.2f} |"
        )
    for row in result["fetch_from_merged"] or []:
        if ratio := row.get("to_best_native"):
            lines.append(
                f"\nOutrigger's documents merged to one segment as well, `_source` title, 8 connections: {row['qps']:,.0f} queries/s, "
                f"{ratio['median']:.2f}× [{ratio['low95']:.2f}–{ratio['high95']:.2f}] {row['best_native']}."
            )
    usage = result["usage"]["outrigger"]
    own = usage["outrigger"]
    lines.append(
        f"\nAfter the searches: Outrigger {own['rss'] / 1e6:.0f} MB resident ({own['anonymous'] / 1e6:.0f} MB maps no file), {own['disk'] / 1e6:.0f} MB on disk; "
        f"Elasticsearch, all peers together, {usage['elasticsearch']['rss'] / 1e6:.0f} MB resident."
    )
    missing = [peer for peer, point in result["chosen"].items() if point is None]
    if missing:
        lines.append(f"\nDid not reach {TARGET}: {', '.join(missing)}.")
    return lines
