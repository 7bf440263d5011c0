"""Queries per second against recall: settings chosen on one half of the queries, measured on the other in alternating rounds."""

import random

import machine
from stack import say
from statistics_of import median, summary

TARGETS = {10: (0.9, 0.95, 0.99), 100: (0.9, 0.95)}
# Above this a curve is not followed further; below that it is not shown.
ENOUGH, SHOWN = 0.997, 0.8
CURVE_ROUNDS = 2
QUICK_ROUNDS = 2


class Contest:
    """All peers on one set. `entrants` are built already."""

    def __init__(self, vectors, entrants, rounds, seed=5):
        self.vectors, self.entrants, self.rounds = vectors, entrants, rounds
        self.source = random.Random(seed)

    def run(self, depths, targets=TARGETS, curves=True):
        result = {"dataset": self.vectors.describe(), "depths": {}}
        for k in depths:
            tried = {(peer, mode): self.try_settings(peer, mode, k) for peer in self.entrants for mode in peer.modes}
            chosen = self.choose(tried, targets[k])
            samples, others = self.alternate([(target, *way) for target, ways in chosen.items() for way in ways], k)
            part = {
                "targets": {str(target): self.conclude(target, ways, samples, k) for target, ways in chosen.items()},
                "short_of": {str(target): sorted({label(peer, mode) for peer, mode in tried} - reached(tried, target)) for target in targets[k]},
                "other_cores": others,
                "samples": [{"target": target, "way": label(peer, mode), "setting": setting, "qps": values} for (target, peer, mode, setting), values in unfreeze(samples)],
            }
            if curves:
                part["curves"] = self.curves(tried, k)
            result["depths"][str(k)] = part
        return result

    def try_settings(self, peer, mode, k):
        """Every setting worth a look, on the queries for choosing: (setting, recall, q/s)."""
        say(f"{self.vectors.name}, {k} hits: settings of {label(peer, mode)}")
        points = []
        for ladder in peer.ladders(k):
            for setting in ladder:
                recall = peer.recall(self.vectors.choosing, k, setting, mode)
                if recall >= SHOWN:
                    points.append((setting, recall, round(peer.speed(self.vectors.choosing, k, setting, mode, seconds=0.05), 1)))
                if recall > ENOUGH or (len(points) > 1 and points[-1][2] < 100):
                    break
        return points

    def choose(self, tried, targets):
        """For each target and each family and mode, the fastest setting of its fastest index."""
        chosen = {}
        for target in targets:
            best = {}
            for (peer, mode), points in tried.items():
                for setting, recall, qps in points:
                    known = best.get((peer.family, mode))
                    if recall >= target and (known is None or qps > known[0]):
                        best[peer.family, mode] = (qps, peer, mode, setting)
            chosen[target] = [way[1:] for way in best.values()]
        return chosen

    def alternate(self, ways, k):
        """Speeds of all ways, in rounds of another order each."""
        samples = {freeze(way): [] for way in ways}
        with machine.Watch({}) as watch:
            for number in range(self.rounds):
                say(f"{self.vectors.name}, {k} hits: round {number + 1} of {self.rounds}, {len(ways)} ways")
                self.source.shuffle(ways)
                for way in ways:
                    _, peer, mode, setting = way
                    samples[freeze(way)].append(round(peer.speed(self.vectors.measuring, k, setting, mode), 1))
        return samples, watch.others(1.0)

    def conclude(self, target, ways, samples, k):
        """Speed, recall, and Outrigger's ratio to each, round by round."""
        speeds = {(peer, mode): samples[freeze((target, peer, mode, setting))] for peer, mode, setting in ways}
        ours = {mode: values for (peer, mode), values in speeds.items() if peer.family == "outrigger"}
        rows = []
        for peer, mode, setting in ways:
            row = {
                "peer": peer.name,
                "mode": mode,
                "setting": setting,
                "recall": peer.recall(self.vectors.measuring, k, setting, mode),
                "qps": summary(speeds[peer, mode], 1),
            }
            if peer.family != "outrigger":
                row["ratio"] = {name: summary([mine / theirs for mine, theirs in zip(values, speeds[peer, mode])]) for name, values in ours.items()}
            rows.append(row)
        return sorted(rows, key=lambda row: -row["qps"]["median"])

    def curves(self, tried, k):
        """The best points of each family and mode, measured again on the other half."""
        front = {}
        for (peer, mode), points in tried.items():
            front.setdefault((peer.family, mode), []).extend((recall, qps, peer, mode, setting) for setting, recall, qps in points)
        ways = [("curve", *point[2:]) for points in front.values() for point in pareto(points)]
        rounds, self.rounds = self.rounds, 1 if self.rounds <= QUICK_ROUNDS else CURVE_ROUNDS
        samples, _ = self.alternate(ways, k)
        self.rounds = rounds
        curves = {}
        for (_, peer, mode, setting), values in unfreeze(samples):
            point = {"recall": peer.recall(self.vectors.measuring, k, setting, mode), "qps": median(values), "peer": peer.name, "setting": setting}
            curves.setdefault(f"{peer.family}, {mode}", []).append(point)
        return {name: sorted(points, key=lambda point: point["recall"]) for name, points in sorted(curves.items())}


def label(peer, mode):
    return f"{peer.name}, {mode}"


def reached(tried, target):
    return {label(peer, mode) for (peer, mode), points in tried.items() if any(recall >= target for _, recall, _ in points)}


def pareto(points):
    """Those that no other beats in both recall and speed."""
    front, fastest = [], 0
    for point in sorted(points, key=lambda point: (-point[0], -point[1])):
        if point[1] > fastest:
            fastest = point[1]
            front.append(point)
    return front


def freeze(way):
    target, peer, mode, setting = way
    return target, peer, mode, tuple(setting.items())


def unfreeze(samples):
    for (target, peer, mode, setting), values in samples.items():
        yield (target, peer, mode, dict(setting)), values
