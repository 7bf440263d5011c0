"""Searches that may find only a share of the vectors: Outrigger against hnswlib with its filter callback."""

import numpy as np
from entrants import build
from libraries import Hnswlib, Outrigger
from recall import Contest
from sets import Queries
from stack import say

TARGET = 0.95
# Callbacks through Python take milliseconds a query: so many are enough.
QUERIES = 250
# Share kept, and whether the kept ones lie around one vector.
FILTERS = ((0.01, False), (0.1, False), (0.5, False), (0.01, True))


class Kept(Queries):
    """Half of the queries; only vectors of a mask count."""

    def __init__(self, half, mask):
        self.owner, self.half, self.mask = half.owner, f"{half.half}-first-{QUERIES}", mask
        self.rows, self.slack = half.rows[:QUERIES], half.slack[:QUERIES]
        self.floors = half.owner.floors_of(self.rows, mask)

    def recall(self, ids, k):
        return super().recall(np.where((ids >= 0) & self.mask[ids], ids, -1), k)


class FilteredSet:
    """A set, seen through a mask."""

    def __init__(self, vectors, share, correlated):
        self.name, self.describe = f"{vectors.name}, {share:.0%}{' correlated' if correlated else ''}", vectors.describe
        self.mask = mask_of(vectors, share, correlated)
        self.choosing, self.measuring = Kept(vectors.choosing, self.mask), Kept(vectors.measuring, self.mask)


def mask_of(vectors, share, correlated):
    source = np.random.default_rng(7)
    wanted = max(200, round(share * len(vectors.base)))
    mask = np.zeros(len(vectors.base), bool)
    if correlated:
        centre = vectors.base[source.integers(len(vectors.base))]
        mask[np.argpartition(-vectors.similarity(centre, vectors.base), wanted)[:wanted]] = True
    else:
        mask[source.choice(len(mask), wanted, replace=False)] = True
    return mask


class FilteredOutrigger(Outrigger):
    """Draws a filter of its own, of the same share; its recall is measured against an exact search of what it keeps."""

    def __init__(self, built, share, correlated):
        super().__init__(built.binary, built.help)
        self.modes, self.vectors, self.dir = ("single",), built.vectors, built.dir
        self.words = ("--filter-keep", share, *(("--filter-correlated",) if correlated else ()))
        self.short = 0

    def search(self, queries, k, setting, mode, *more, **options):
        found = super().search(queries, k, setting, mode, *self.words, *more, **options)
        self.short = max(self.short, found["short"])
        return found


class FilteredHnswlib(Hnswlib):
    """hnswlib calls back for every vector it visits; from Python the callback is Python too, and a large part of the time."""

    def __init__(self, built, mask):
        self.index, self.allowed = built.index, mask.tolist().__getitem__

    def ask(self, rows, k, setting, mode):
        try:
            return super().ask(rows, k, setting, mode, filter=self.allowed)
        except RuntimeError:
            # It found fewer than k hits of some query, and then gives none of any.
            return np.full((len(rows), k), -1), 1.0


def run(bench):
    """All filters on each set."""
    found = {}
    for name in bench.names:
        vectors = bench.read(name)
        outrigger, hnswlib = Outrigger(bench.binary), Hnswlib()
        standing, _ = build(vectors, [outrigger, hnswlib])
        found[name] = {"dataset": vectors.describe(), "filters": {}}
        for share, correlated in FILTERS:
            through = FilteredSet(vectors, share, correlated)
            ours = FilteredOutrigger(outrigger, share, correlated)
            entrants = [ours, *([FilteredHnswlib(hnswlib, through.mask)] if hnswlib in standing else [])]
            say(f"{through.name}: {through.mask.sum():,} vectors")
            contest = Contest(through, entrants, min(bench.rounds, 3)).run((10,), {10: (TARGET,)}, curves=False)["depths"]["10"]
            label = f"{share:.0%} {'around one vector' if correlated else 'at random'}"
            found[name]["filters"][label] = {"kept": int(through.mask.sum()), "short_answers": ours.short, "rows": contest["targets"][str(TARGET)], "short_of": contest["short_of"][str(TARGET)]}
    return found
