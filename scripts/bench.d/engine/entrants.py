"""Who takes part: every library that is installed, with the index kinds that suit a set."""

import importlib.util
import math

from libraries import Faiss, Hnswlib, Outrigger, Scann, Usearch
from stack import say

LIBRARIES = {"faiss": "faiss-cpu", "hnswlib": "hnswlib", "usearch": "usearch", "scann": "scann"}


def missing():
    """Libraries that did not install."""
    return [package for module, package in LIBRARIES.items() if importlib.util.find_spec(module) is None]


def factories(vectors, quick):
    """IVF indexes of Faiss: 4-bit fast-scan and 1-bit RaBitQ fast-scan with refinement, scalar and plain, at several numbers of lists."""
    middle = power_of_two(3 * len(vectors.base) ** 0.5)
    codes = {f"PQ{vectors.dims // 4}x4fs", f"PQ{vectors.dims // 2}x4fs"}
    if quick:
        return [f"IVF{middle},PQ{vectors.dims // (4 if vectors.dims >= 256 else 2)}x4fs,RFlat", f"IVF{middle},RaBitQfs,RFlat"]
    found = [f"IVF{lists},{code},RFlat" for lists in (middle // 2, middle, middle * 2) for code in (*sorted(codes), "RaBitQfs")]
    return [*found, f"IVF{middle},RaBitQfs,Refine(SQ8)", f"IVF{middle},PQ{vectors.dims // 2}x4fs,Refine(SQ8)", f"IVF{middle},SQ8", f"IVF{middle},Flat"]


def power_of_two(number):
    return 2 ** round(math.log2(number))


def all_for(vectors, binary, quick, wanted=None):
    """Everyone, not built yet. A library that is absent, or does not start, is skipped with a word."""
    makers = {
        "outrigger": [lambda: Outrigger(binary)],
        "faiss": [lambda factory=factory: Faiss(factory) for factory in factories(vectors, quick)],
        "hnswlib": [Hnswlib],
        "usearch": [lambda dtype=dtype: Usearch(dtype) for dtype in (("f32",) if quick else ("f32", "f16"))],
        "scann": [Scann],
    }
    entrants = []
    for family, kinds in makers.items():
        if wanted and family not in wanted and family != "outrigger":
            continue
        for make in kinds:
            try:
                entrants.append(make())
            except (ImportError, RuntimeError) as reason:
                say(f"{family} is skipped: {reason}")
    return entrants


def build(vectors, entrants):
    """Builds everyone in turn; who fails is left out. Returns those who stand, and what each build took."""
    standing, builds = [], {}
    for peer in entrants:
        try:
            builds[peer.name] = peer.build(vectors)
        except (RuntimeError, ValueError) as reason:
            if peer.family == "outrigger":
                raise
            say(f"{peer.name} is skipped: {str(reason).splitlines()[-1][:200]}")
            builds[peer.name] = {"failed": str(reason)[-300:]}
            continue
        say(f"{vectors.name}: {peer.name} built in {builds[peer.name]['seconds']:.2f} s")
        standing.append(peer)
    return standing, builds
