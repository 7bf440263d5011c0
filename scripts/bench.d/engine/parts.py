"""The parts of the bench, by the name that --only takes."""

import dataclasses
import pathlib

import alone
import entrants
import filters
import growth
import sets
from building import Building
from recall import Contest


@dataclasses.dataclass
class Bench:
    """What every part needs to know."""

    binary: pathlib.Path
    data: pathlib.Path
    names: list
    peers: list | None
    quick: bool
    limit: int | None
    rounds: int

    def read(self, name):
        return sets.read(name, self.data, self.limit)

    def entrants(self, vectors):
        return entrants.all_for(vectors, self.binary, self.quick, self.peers)


def recall(bench):
    """Each set against everyone."""
    found = {}
    for name in bench.names:
        vectors = bench.read(name)
        standing, builds = entrants.build(vectors, bench.entrants(vectors))
        found[name] = Contest(vectors, standing, bench.rounds).run((10,) if bench.quick else (10, 100)) | {"builds": builds}
    return found


def build(bench):
    """Each set, built over and over."""
    return {name: Building(bench, bench.read(name)).run() for name in bench.names}


PARTS = {"recall": recall, "build": build, "filter": filters.run, "growth": growth.run, "kernel": alone.kernel, "inserts": alone.inserts, "churn": alone.churn}
