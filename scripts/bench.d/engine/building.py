"""Build times: vectors in memory until the index is on disk, with two threads, in alternating rounds."""

import entrants
import machine
from stack import say
from statistics_of import summary

ROUNDS = 3


class Building:
    """One set."""

    def __init__(self, bench, vectors):
        self.vectors, self.rounds = vectors, 1 if bench.quick else ROUNDS
        # Middle numbers of lists only: twice as many lists cost Faiss twice the training.
        self.everyone = entrants.all_for(vectors, bench.binary, True, bench.peers)

    def run(self):
        samples = {}
        with machine.Watch({}) as watch:
            for number in range(self.rounds):
                say(f"{self.vectors.name}: building, round {number + 1} of {self.rounds}")
                _, builds = entrants.build(self.vectors, self.everyone)
                for name, built in builds.items():
                    samples.setdefault(name, []).append(built)
        return {"dataset": self.vectors.describe(), "rounds": self.rounds, "other_cores": watch.others(2.0), "peers": {name: conclude(builds, samples["outrigger"]) for name, builds in samples.items()}}


def conclude(builds, ours):
    if any("failed" in built for built in builds):
        return builds[0]
    seconds = [built["seconds"] for built in builds]
    times_ours = [theirs / mine["seconds"] for theirs, mine in zip(seconds, ours)]
    return builds[-1] | {"seconds": summary(seconds, 2), "times_outrigger": summary(times_ours, 2)}
