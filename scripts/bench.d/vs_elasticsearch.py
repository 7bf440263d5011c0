"""Outrigger and Elasticsearch side by side, over HTTP, in one run: the same data, the same client, the same cores."""

import importlib
import sys

import client
import command
import dataset
import records
from servers import Servers
from stack import say

PARTS = {"pass": "passing", "ingest": "loading", "search": "curves"}
QUICK_BASE = 12_000
EXAMPLES = """examples:
  scripts/bench vs-elasticsearch                                  all parts on both sets of vectors; about 35 minutes on 2 cores
  scripts/bench vs-elasticsearch --quick                          a small pass over everything: does it all work? 3 minutes
  scripts/bench vs-elasticsearch --only pass                      passing through: direct, nginx, HAProxy, Outrigger
  scripts/bench pass --tls                                        the same with TLS between client and proxies
  scripts/bench vs-elasticsearch --only search --dataset mini     queries/s and latencies against recall, after loading each peer
  scripts/bench vs-elasticsearch --only ingest --dataset sift     ingest until searchable, 1 and 4 bulk clients
  scripts/bench vs-elasticsearch --only pass --binary target/release/outrigger --label tuned-buffers

The sets: mini (108,000 x 384, cosine) and sift (400,000 x 128, l2) from --data; where that folder is absent, the WordNet slice that ships with the
project. A full run measures ingest with 1 and 4 clients on the first set; on all sets with 4 clients, before the searches.

Peers are measured in alternating rounds, so that other work on the machine hits all of them; trust the ratios more than the absolute figures. The record
keeps every round, with the cores that each server, the client and foreign processes took meanwhile."""


def main():
    options = command.with_servers(command.parser("vs-elasticsearch", __doc__, EXAMPLES, 5))
    options.add_argument("--only", choices=list(PARTS), help="one part (default: all)")
    options.add_argument("--dataset", action="append", choices=("mini", "sift", "wordnet"), help="one set of vectors; may be repeated (default: all there are)")
    options.add_argument("--tls", action="store_true", help="with --only pass: nginx, HAProxy and Outrigger speak TLS to the client, with one certificate and one cipher suite")
    arguments = options.parse_args()
    if arguments.tls and arguments.only != "pass":
        options.error("--tls is for --only pass")
    there = dataset.names(arguments.data.absolute())
    if not set(arguments.dataset or []) <= set(there):
        print(f"--dataset: there are {', '.join(there)}", file=sys.stderr)
        return 2
    return command.run("vs-elasticsearch", arguments, arguments.cores, lambda record: bench(record, arguments))


def bench(record, arguments):
    parts = [arguments.only] if arguments.only else list(PARTS)
    if arguments.quick and not arguments.only:
        # The searches load every peer too: enough to see that it works.
        parts.remove("ingest")
    loadgen = arguments.loadgen or client.build("bench-loadgen", "bench-loadgen")
    binary = arguments.binary or client.build("outrigger", "outrigger")
    with Servers(arguments.elasticsearch, arguments.heap, binary) as servers:
        record["versions"] |= {"elasticsearch": arguments.elasticsearch, "java": servers.java}
        record["parameters"] = {"heap": arguments.heap}
        for name in parts:
            say(f"part: {name}")
            record["parts"][name] = run_part(name, arguments, servers, client.Client(loadgen))
    kept = command.save(record, arguments, [f"{record['machine']['cores_used']}c", arguments.only, "tls" if arguments.tls else None, *(arguments.dataset or [])], page)
    print(page(record))
    say(f"record: {kept}")


def module(name):
    return importlib.import_module(PARTS[name])


def run_part(name, arguments, servers, load):
    if name == "pass":
        return module(name).run(servers, load, arguments.quick, tls=arguments.tls)
    folder = arguments.data.absolute()
    wanted = arguments.dataset or dataset.names(folder)
    if arguments.quick or (name == "ingest" and arguments.only is None):
        wanted = wanted[:1]
    sets = [dataset.read(each, folder, QUICK_BASE if arguments.quick else None) for each in wanted]
    options = {"rounds": arguments.rounds} if name == "search" else {}
    return module(name).run(servers, load, sets, arguments.quick, **options)


def page(record):
    lines = records.heading(record, caution=records.RATIOS_COUNT)
    lines += [module(name).table(part) for name, part in record["parts"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
