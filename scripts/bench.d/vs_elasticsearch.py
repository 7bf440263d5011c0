"""Outrigger and Elasticsearch side by side, over HTTP, in one run. See `scripts/bench vs-elasticsearch --help`."""

import argparse
import datetime
import importlib
import json
import os
import pathlib
import signal
import sys

import client
import machine
from places import RECORDS, ROOT
from servers import Servers, source_version
from stack import Stop, say

PARTS = {"pass": "passing"}
EXAMPLES = """examples:
  scripts/bench vs-elasticsearch                                  all parts on both sets of vectors; about 35 minutes on 2 cores
  scripts/bench vs-elasticsearch --quick                          every part once, small: does it all work? under 3 minutes
  scripts/bench vs-elasticsearch --only pass                      passing through: direct, nginx, HAProxy, Outrigger
  scripts/bench vs-elasticsearch --only pass --binary target/release/outrigger --label tuned-buffers

Peers are measured in alternating rounds, so that other work on the machine hits all of them; trust the ratios more than the absolute figures. The record
keeps every round, with the cores that each server, the client and foreign processes took meanwhile."""


def main():
    arguments = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    load_at_start = os.getloadavg()
    cores = machine.bind(arguments.cores)
    parts = [arguments.only] if arguments.only else list(PARTS)
    try:
        loadgen = client.build("bench-loadgen", "bench-loadgen")
        binary = arguments.binary or client.build("outrigger", "outrigger")
        record = {
            "bench": "vs-elasticsearch",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "label": arguments.label,
            "quick": arguments.quick,
            "machine": machine.describe(cores) | {"load_at_start": load_at_start},
            "versions": {"outrigger": source_version()},
            "parts": {},
        }
        with Servers(arguments.elasticsearch, arguments.heap, binary) as servers:
            record["versions"] |= {"elasticsearch": arguments.elasticsearch, "java": servers.java}
            record["parameters"] = {"heap": arguments.heap}
            for name in parts:
                run_part(name, arguments, servers, client.Client(loadgen), record)
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
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    parser.add_argument("--binary", type=pathlib.Path, help="an Outrigger that is built already (default: cargo build --release)")
    parser.add_argument("--elasticsearch", default="9.2.0", metavar="VERSION", help="default: %(default)s")
    parser.add_argument("--heap", default="4g", help="Elasticsearch's heap (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="all processes share so many (default: %(default)s)")
    parser.add_argument("--label", help="a word for the record and its file name")
    parser.add_argument("--record", type=pathlib.Path, help="where the record goes (default: bench.d/record/<date>-<machine>.json; a quick run writes none)")
    return parser.parse_args()


def module(name):
    return importlib.import_module(PARTS[name])


def run_part(name, arguments, servers, load, record):
    say(f"part: {name}")
    record["parts"][name] = module(name).run(servers, load, arguments.quick)


def heading(record):
    computer = record["machine"]
    loads = f"{computer['load_at_start'][0]:.1f} at the start, {computer['load_at_end'][0]:.1f} at the end"
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    text = f"\n## scripts/bench vs-elasticsearch, {record['date']}\n\n{computer['cpu']}, {computer['cores_used']} cores; load average {loads}; {versions}.\n"
    if computer["load_at_start"][0] > 1:
        text += "**The machine was busy with other work**: ratios between alternating rounds count, absolute figures do not.\n"
    return text


def save(record, arguments):
    path = arguments.record
    if path is None:
        if arguments.quick:
            return "none (quick run)"
        words = [record["date"][:10], record["machine"]["cpu"], f"{record['machine']['cores_used']}c", arguments.only, arguments.label]
        name = "-".join("".join(c if c.isalnum() else "-" for c in word.lower()).strip("-") for word in words if word)
        RECORDS.mkdir(exist_ok=True)
        path = RECORDS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


if __name__ == "__main__":
    sys.exit(main())
