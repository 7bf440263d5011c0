"""Outrigger and Elasticsearch side by side, over HTTP, in one run: the same data, the same client, the same cores."""

import argparse
import importlib
import json
import os
import pathlib
import signal
import sys

import client
import dataset
import machine
import records
from places import ROOT
from servers import Servers
from stack import Stop, say

PARTS = {"pass": "passing", "ingest": "loading", "search": "search"}
QUICK_BASE = 12_000
EXAMPLES = """examples:
  scripts/bench vs-elasticsearch                                  all parts on both sets of vectors; about 35 minutes on 2 cores
  scripts/bench vs-elasticsearch --quick                          a small pass over everything: does it all work? 3 minutes
  scripts/bench vs-elasticsearch --only pass                      passing through: direct, nginx, HAProxy, Outrigger
  scripts/bench vs-elasticsearch --only search --dataset mini     queries/s and latencies against recall, after loading each peer
  scripts/bench vs-elasticsearch --only ingest --dataset sift     ingest until searchable, 1 and 4 bulk clients
  scripts/bench vs-elasticsearch --only pass --binary target/release/outrigger --label tuned-buffers

The sets: mini (108,000 x 384, cosine) and sift (400,000 x 128, l2) from --data; where that folder is absent, the WordNet slice that ships with the
project. A full run measures ingest with 1 and 4 clients on the first set; on all sets with 4 clients, before the searches.

Peers are measured in alternating rounds, so that other work on the machine hits all of them; trust the ratios more than the absolute figures. The record
keeps every round, with the cores that each server, the client and foreign processes took meanwhile."""


def main():
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    data = arguments.data.absolute()
    if not set(arguments.dataset or []) <= set(dataset.names(data)):
        print(f"--dataset: there are {', '.join(dataset.names(data))}", file=sys.stderr)
        return 2
    load_at_start = os.getloadavg()
    cores = machine.bind(arguments.cores)
    parts = [arguments.only] if arguments.only else list(PARTS)
    if arguments.quick and not arguments.only:
        # The searches load every peer too: enough to see that it works.
        parts.remove("ingest")
    try:
        loadgen = arguments.loadgen or client.build("bench-loadgen", "bench-loadgen")
        binary = arguments.binary or client.build("outrigger", "outrigger")
        record = records.new("vs-elasticsearch", arguments, cores, load_at_start)
        with Servers(arguments.elasticsearch, arguments.heap, binary) as servers:
            record["versions"] |= {"elasticsearch": arguments.elasticsearch, "java": servers.java}
            record["parameters"] = {"heap": arguments.heap}
            for name in parts:
                say(f"part: {name}")
                record["parts"][name] = run_part(name, arguments, servers, client.Client(loadgen))
        record["machine"]["load_at_end"] = os.getloadavg()
        print(heading(record) + "\n".join(module(name).table(record["parts"][name]) for name in parts))
        say(f"record: {save(record, arguments)}")
    except KeyboardInterrupt:
        return 130
    except (Stop, RuntimeError, OSError) as reason:
        say(f"stopped: {reason}")
        return 1
    return 0


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/bench vs-elasticsearch", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(PARTS), help="one part (default: all)")
    parser.add_argument("--dataset", action="append", choices=("mini", "sift", "wordnet"), help="one set of vectors; may be repeated (default: all there are)")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data", metavar="DIR", help="where the sets are (default: ../shared/data)")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of searches (default: %(default)s)")
    parser.add_argument("--binary", type=pathlib.Path, help="an Outrigger that is built already (default: cargo build --release)")
    parser.add_argument("--commit", help="what the record calls the version of --binary (default: that of the sources here)")
    parser.add_argument("--loadgen", type=pathlib.Path, help="a load generator that is built already")
    parser.add_argument("--elasticsearch", default="9.2.0", metavar="VERSION", help="default: %(default)s")
    parser.add_argument("--heap", default="4g", help="Elasticsearch's heap (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="all processes share so many (default: %(default)s)")
    parser.add_argument("--label", help="a word for the record and its file name")
    parser.add_argument("--record", type=pathlib.Path, help="where the record goes (default: bench.d/record/<date>-<machine>.json; a quick run writes none)")
    return parser.parse_args()


def module(name):
    return importlib.import_module(PARTS[name])


def run_part(name, arguments, servers, load):
    if name == "pass":
        return module(name).run(servers, load, arguments.quick)
    folder = arguments.data.absolute()
    wanted = arguments.dataset or dataset.names(folder)
    if arguments.quick or (name == "ingest" and arguments.only is None):
        wanted = wanted[:1]
    sets = [dataset.read(each, folder, QUICK_BASE if arguments.quick else None) for each in wanted]
    options = {"rounds": arguments.rounds} if name == "search" else {}
    return module(name).run(servers, load, sets, arguments.quick, **options)


def heading(record):
    computer = record["machine"]
    loads = f"{computer['load_at_start'][0]:.1f} at the start, {computer['load_at_end'][0]:.1f} at the end"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    text = f"\n## scripts/bench vs-elasticsearch, {record['date']}\n\n{computer['cpu']}, {computer['cores_used']} cores; load average {loads}; {versions}.\n"
    if computer["load_at_start"][0] > 1:
        text += "**The machine was busy with other work**: ratios between alternating rounds count, absolute figures do not.\n"
    return text


def save(record, arguments):
    path = records.path(arguments, record, [f"{record['machine']['cores_used']}c", arguments.only, *(arguments.dataset or [])])
    if path is None:
        return "none (quick run)"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return records.shown(path)


if __name__ == "__main__":
    sys.exit(main())
