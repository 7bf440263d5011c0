"""How the cost of a search grows with the number of vectors, at equal recall: subsets of one set, each with settings of its own."""

import entrants
from recall import Contest
from stack import Stop

TARGET = 0.95
SIZES = (50_000, 100_000, 200_000, 400_000)
QUICK_SIZES = (10_000, 20_000)
PEERS = ("hnswlib",)


def run(bench):
    """The largest set that there is, in parts."""
    sets = {name: bench.read(name) for name in bench.names}
    name, whole = max(sets.items(), key=lambda pair: len(pair[1].base))
    sizes = [size for size in (QUICK_SIZES if bench.quick else SIZES) if size <= len(whole.base)]
    if len(sizes) < 2:
        raise Stop(f"{name} has {len(whole.base):,} vectors, too few to grow")
    steps = {}
    for size in sizes:
        vectors = whole.part(size)
        standing, _ = entrants.build(vectors, entrants.all_for(vectors, bench.binary, True, PEERS))
        contest = Contest(vectors, standing, bench.rounds).run((10,), {10: (TARGET,)}, curves=False)
        steps[size] = contest["depths"]["10"]["targets"][str(TARGET)]
    return {"dataset": whole.describe(), "name": name, "target": TARGET, "steps": steps, "falls": falls(steps)}


def falls(steps):
    """By how much queries per second fall from the smallest to the largest."""
    first, last = ({f"{row['peer']}, {row['mode']}": row["qps"]["median"] for row in steps[size]} for size in (min(steps), max(steps)))
    return {way: round(first[way] / last[way], 2) for way in first if way in last}
