"""Outrigger's engine in process, without Elasticsearch, beside faiss-cpu, hnswlib, usearch and scann: the same vectors, one thread per search, one run."""

import importlib.metadata
import sys

import client
import command
import entrants
import parts
import recall
import report
import sets
from stack import say

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
    options = command.parser("engine", __doc__, EXAMPLES, 7, parts.PARTS)
    options.add_argument("--dataset", action="append", choices=(*sets.REAL, *sets.MADE), help="one set of vectors; may be repeated")
    options.add_argument("--peers", type=lambda text: text.split(","), metavar="NAMES", help="of faiss,hnswlib,usearch,scann (default: all that are installed)")
    arguments = options.parse_args()
    there = sets.names(arguments.data.absolute())
    if not set(arguments.dataset or []) <= set(there):
        print(f"--dataset: there are {', '.join(there)}", file=sys.stderr)
        return 2
    return command.run("engine", arguments, 2, lambda record: bench(record, arguments, there))


def bench(record, arguments, there):
    setting = parts.Bench(
        binary=arguments.binary or client.build("outrigger", "outrigger"),
        data=arguments.data.absolute(),
        names=arguments.dataset or (["wordnet"] if arguments.quick else [name for name in there if name not in ("wordnet", "clusters")] or there),
        peers=arguments.peers,
        quick=arguments.quick,
        limit=QUICK_BASE if arguments.quick else None,
        rounds=recall.QUICK_ROUNDS if arguments.quick else arguments.rounds,
    )
    record["versions"] |= versions()
    record["skipped"] = entrants.missing()
    record["parameters"] = {"rounds": setting.rounds}
    for package in record["skipped"]:
        say(f"{package} is not installed and is skipped")
    words = [*command.words_of("engine", arguments, parts.PARTS), *(arguments.dataset or [])]
    for name in arguments.only:
        say(f"part: {name}")
        record["parts"][name] = parts.PARTS[name](setting)
        # After each part: what is measured is kept if a later one fails.
        kept = command.save(record, arguments, words, report.page, picture)
    print("\n" + report.page(record))
    say(f"record: {kept}")


def versions():
    found = {}
    for package in (*entrants.LIBRARIES.values(), "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def picture(record, path):
    if "recall" not in record["parts"]:
        return
    try:
        import plot

        plot.draw(record["parts"]["recall"], path)
    except ImportError as reason:
        say(f"no plot: {reason}")


if __name__ == "__main__":
    sys.exit(main())
