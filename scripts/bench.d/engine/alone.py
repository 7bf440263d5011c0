"""What the engine does by itself, measured by example programs of its crate: scan cost, inserts beside searches, churn."""

import json
import subprocess

import client
from stack import Stop, say
from statistics_of import summary

# Nibbles of an entry's code, as the engine chooses them: 1 bit per dimension from 256 dimensions, 2 from 32.
BITS = ((256, 1), (32, 2), (1, 4))
CHURN = 0.3
RATE = 20_000


def example(name, *words):
    """Runs an example; its JSON."""
    done = subprocess.run([client.build("ivf-index", name, "example"), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Stop(f"the example {name} of ivf-index failed: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout)


def kernel(bench):
    """Nanoseconds per entry, inside a search and of the bare kernel."""
    found = {}
    for vectors in each(bench):
        groups = -(-vectors.dims * next(bits for dims, bits in BITS if vectors.dims >= dims) // 4)
        result = example("scan_cost", vectors.file, vectors.metric, vectors.measuring.file(), groups, 3 if bench.quick else 15)
        for name in ("kernel_ns", "engine_ns", "exact_ns"):
            result[name] = summary([round[name] for round in result["rounds"]], 2)
        result["ratio"] = summary([round["engine_ns"] / round["kernel_ns"] for round in result["rounds"]], 2)
        found[vectors.name] = {"dataset": vectors.describe()} | result
    return found


def inserts(bench):
    """Latencies of a search thread, idle and while documents come in."""
    found = {}
    for vectors in each(bench):
        seconds, rounds = (0.5, 2) if bench.quick else (2, 7)
        result = example("inserts", vectors.file, vectors.metric, vectors.measuring.file(), RATE, seconds, rounds)
        result["p99_ratio"] = summary([round["busy"]["p99_us"] / round["idle"]["p99_us"] for round in result["rounds"]], 2)
        for name in ("per_second", "per_busy_second"):
            result[name] = summary([round[name] for round in result["rounds"]], 0)
        found[vectors.name] = {"dataset": vectors.describe()} | result
    return found


def churn(bench):
    """Recall after deletions and insertions of another distribution, against a fresh build."""
    return {vectors.name: {"dataset": vectors.describe()} | example("churn", vectors.file, vectors.metric, vectors.measuring.file(), CHURN) for vectors in each(bench)}


def each(bench):
    for name in bench.names:
        vectors = bench.read(name)
        say(f"{name}: the engine by itself")
        yield vectors

