"""The write path over HTTP: bulk until searchable, publication, catching up, audits, restarts, beside a real Elasticsearch, in one run."""

import argparse
import json
import os
import pathlib
import signal
import sys

import client
import dataset
import machine
import parts
import records
import report
from places import ROOT
from servers import Servers
from setting import Bench
from stack import Stop, say

QUICK_BASE = 12_000
EXAMPLES = """examples:
  scripts/bench ingest                              all parts; about 40 minutes on 2 quiet cores, 20 GB of disk
  scripts/bench ingest --quick                      a small pass over everything: does it all work? a few minutes
  scripts/bench ingest --only load,publication      documents/s beside int8_hnsw, bbq_hnsw, bbq_disk and flat; delay of publication
  scripts/bench ingest --only million               a million vectors: what an audit costs, how long a restart takes
  scripts/bench ingest --binary target/release/outrigger --label other-pages

The vectors: mini (108,000 x 384, cosine) from --data; where that folder is absent, the WordNet slice that ships with the project. All processes share
--cores cores, the client included."""


def main():
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = arguments.data.absolute()
    load_at_start = os.getloadavg()
    cores = machine.bind(arguments.cores)
    try:
        loadgen = arguments.loadgen or client.build("bench-loadgen", "bench-loadgen")
        binary = arguments.binary or client.build("outrigger", "outrigger")
        vectors = dataset.read(dataset.names(folder)[0], folder, QUICK_BASE if arguments.quick else None)
        record = records.new("ingest", arguments, cores, load_at_start)
        # Thousands of indices on one node are more than a node wants to hold.
        with Servers(arguments.elasticsearch, arguments.heap, binary, settings=["cluster.max_shards_per_node=10000"]) as servers:
            record["versions"] |= {"elasticsearch": arguments.elasticsearch, "java": servers.java}
            record["parameters"] = {"heap": arguments.heap, "rounds": arguments.rounds}
            bench = Bench(servers, client.Client(loadgen), vectors, arguments.quick, arguments.rounds)
            for name in arguments.only:
                say(f"part: {name}")
                record["parts"][name] = parts.PARTS[name](bench)
                bench.client.processes = {}
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
    parser = argparse.ArgumentParser(prog="scripts/bench ingest", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=part_names, default=list(parts.PARTS), metavar="PARTS", help=f"parts by name, with commas (default: all of {','.join(parts.PARTS)})")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data", metavar="DIR", help="where the vectors are (default: ../shared/data)")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of searches (default: %(default)s)")
    parser.add_argument("--binary", type=pathlib.Path, help="an Outrigger that is built already (default: cargo build --release)")
    parser.add_argument("--commit", help="what the record calls the version of --binary (default: that of the sources here)")
    parser.add_argument("--loadgen", type=pathlib.Path, help="a load generator that is built already")
    parser.add_argument("--elasticsearch", default="9.2.0", metavar="VERSION", help="default: %(default)s")
    parser.add_argument("--heap", default="4g", help="Elasticsearch's heap (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="all processes share so many (default: %(default)s)")
    parser.add_argument("--label", help="a word for the record and its file name")
    parser.add_argument("--record", type=pathlib.Path, help="where the record goes, a path ending in .json, .md beside it (default: bench.d/record/<date>-<cpu>-ingest.json; a quick run writes none)")
    return parser.parse_args()


def part_names(text):
    names = text.split(",")
    if not set(names) <= set(parts.PARTS):
        raise argparse.ArgumentTypeError(f"there are {', '.join(parts.PARTS)}")
    return names


def save(record, arguments):
    chosen = arguments.only if list(arguments.only) != list(parts.PARTS) else []
    path = records.path(arguments, record, ["ingest", *chosen])
    if path is None:
        return "none (quick run)"
    path.write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(report.page(record))
    return records.shown(path)


if __name__ == "__main__":
    sys.exit(main())
