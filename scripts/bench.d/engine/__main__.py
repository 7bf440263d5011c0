"""Outrigger's engine in process, without Elasticsearch, beside faiss-cpu, hnswlib, usearch and scann: the same vectors, one thread per search, one run."""

import argparse
import importlib.metadata
import json
import os
import pathlib
import signal
import sys

import client
import entrants
import machine
import parts
import recall
import records
import report
import sets
from places import ROOT
from stack import Stop, say

QUICK_BASE = 20_000
EXAMPLES = """examples:
  scripts/bench engine                                      all parts on all sets; on 2 quiet cores about an hour and a half
  scripts/bench engine --quick                              a small pass over everything: does it all work? a few minutes
  scripts/bench engine --only recall --dataset mini         queries/s at recall 0.90, 0.95 and 0.99, table and plot
  scripts/bench engine --only recall,build --peers hnswlib  against one library only
  scripts/bench engine --only kernel,inserts,churn          what the engine does by itself
  scripts/bench engine --binary target/release/outrigger --label wider-lists

The sets: mini (108,000 x 384, cosine) and sift (400,000 x 128, l2), both real, from --data where that folder has them; wordnet (22,000 x 384, cosine),
real, which ships with the project; manifold (200,000 x 256, l2) and clusters (200,000 x 96, cosine), made by the bench. The full run takes mini, sift and
manifold unless --dataset says otherwise.

Settings of all sides are chosen on one half of the queries and measured on the other. Trust the ratios of alternating rounds more than absolute figures."""


def main():
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    data = arguments.data.absolute()
    there = sets.names(data)
    if not set(arguments.dataset or []) <= set(there):
        print(f"--dataset: there are {', '.join(there)}", file=sys.stderr)
        return 2
    load_at_start = os.getloadavg()
    cores = machine.bind(2)
    try:
        bench = parts.Bench(
            binary=arguments.binary or client.build("outrigger", "outrigger"),
            data=data,
            names=arguments.dataset or (["wordnet"] if arguments.quick else [name for name in there if name not in ("wordnet", "clusters")] or there),
            peers=arguments.peers,
            quick=arguments.quick,
            limit=QUICK_BASE if arguments.quick else None,
            rounds=recall.QUICK_ROUNDS if arguments.quick else arguments.rounds,
        )
        record = records.new("engine", arguments, cores, load_at_start)
        record["versions"] |= versions()
        record["skipped"] = entrants.missing()
        record["parameters"] = {"rounds": bench.rounds}
        for package in record["skipped"]:
            say(f"{package} is not installed and is skipped")
        for name in arguments.only:
            say(f"part: {name}")
            record["parts"][name] = parts.PARTS[name](bench)
            record["machine"]["load_at_end"] = os.getloadavg()
            # After each part: what is measured is kept if a later one fails.
            kept = save(record, arguments)
        print("\n" + report.page(record))
        say(f"record: {kept}")
    except KeyboardInterrupt:
        return 130
    except (Stop, RuntimeError, OSError) as reason:
        say(f"stopped: {reason}")
        return 1
    return 0


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench engine", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=part_names, default=list(parts.PARTS), metavar="PARTS", help=f"parts by name, with commas (default: all of {','.join(parts.PARTS)})")
    parser.add_argument("--dataset", action="append", choices=(*sets.REAL, *sets.MADE), help="one set of vectors; may be repeated")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data", metavar="DIR", help="where the real sets are (default: ../shared/data)")
    parser.add_argument("--peers", type=lambda text: text.split(","), metavar="NAMES", help="of faiss,hnswlib,usearch,scann (default: all that are installed)")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds (default: %(default)s)")
    parser.add_argument("--binary", type=pathlib.Path, help="an Outrigger that is built already (default: cargo build --release)")
    parser.add_argument("--commit", help="what the record calls the version of --binary (default: that of the sources here)")
    parser.add_argument("--label", help="a word for the record and its file names")
    parser.add_argument("--record", type=pathlib.Path, help="where the record goes, a path ending in .json; .md and .svg beside it (default: bench.d/record/<date>-<cpu>-engine.json; a quick run writes none)")
    return parser.parse_args()


def part_names(text):
    names = text.split(",")
    if not set(names) <= set(parts.PARTS):
        raise argparse.ArgumentTypeError(f"there are {', '.join(parts.PARTS)}")
    return names


def versions():
    found = {}
    for package in (*entrants.LIBRARIES.values(), "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def save(record, arguments):
    """Figures, tables and picture, one beside the other."""
    chosen = arguments.only if list(arguments.only) != list(parts.PARTS) else []
    path = records.path(arguments, record, ["engine", *chosen, *(arguments.dataset or [])])
    if path is None:
        return "none (quick run)"
    path.write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(report.page(record))
    if "recall" in record["parts"]:
        picture(record, path.with_suffix(".svg"))
    return records.shown(path)


def picture(record, path):
    try:
        import plot

        plot.draw(record["parts"]["recall"], path)
    except ImportError as reason:
        say(f"no plot: {reason}")


if __name__ == "__main__":
    sys.exit(main())
