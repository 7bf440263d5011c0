"""What the command lines of all benches share: options, the frame around a run, where a record goes."""

import argparse
import json
import os
import pathlib
import signal
import sys

import machine
import records
from places import ROOT
from stack import Stop, say


def parser(bench, description, examples, default_rounds, parts=None):
    """The options that every bench has."""
    options = argparse.ArgumentParser(prog=f"scripts/bench {bench}", description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
    if parts is not None:
        options.add_argument("--only", type=names_of(parts), default=list(parts), metavar="PARTS", help=f"parts by name, with commas (default: all of {','.join(parts)})")
    options.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared/data", metavar="DIR", help="where the vectors are (default: ../shared/data)")
    options.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    options.add_argument("--rounds", type=int, default=default_rounds, help="alternating rounds (default: %(default)s)")
    options.add_argument("--binary", type=pathlib.Path, help="an Outrigger that is built already (default: cargo build --release)")
    options.add_argument("--commit", help="what the record calls the version of --binary (default: that of the sources here)")
    options.add_argument("--label", help="a word for the record and its file names")
    options.add_argument("--record", type=pathlib.Path, help="where the record goes, a path ending in .json, what people read beside it (default: bench.d/record/<date>-<cpu>-<bench>.json; a quick run writes none)")
    return options


def with_servers(options):
    """The options of a bench that runs Elasticsearch."""
    options.add_argument("--loadgen", type=pathlib.Path, help="a load generator that is built already")
    options.add_argument("--elasticsearch", default="9.2.0", metavar="VERSION", help="default: %(default)s")
    options.add_argument("--heap", default="4g", help="Elasticsearch's heap (default: %(default)s)")
    options.add_argument("--cores", type=int, default=2, help="all processes share so many (default: %(default)s)")
    return options


def names_of(parts):
    """Reads a list of names."""

    def read(text):
        names = text.split(",")
        if not set(names) <= set(parts):
            raise argparse.ArgumentTypeError(f"there are {', '.join(parts)}")
        return names

    return read


def run(bench, arguments, cores, body):
    """Calls `body` with an empty record, on so many cores, and turns its end into an exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    load_at_start = os.getloadavg()
    record = records.new(bench, arguments, machine.bind(cores), load_at_start)
    try:
        body(record)
    except KeyboardInterrupt:
        return 130
    except (Stop, RuntimeError, OSError) as reason:
        say(f"stopped: {reason}")
        return 1
    return 0


def save(record, arguments, words, page, draw=None):
    """Figures and page, one beside the other; `draw` may add a picture. Returns what people are told."""
    record["machine"]["load_at_end"] = os.getloadavg()
    path = records.path(arguments, record, words)
    if path is None:
        return "none (quick run)"
    path.write_text(json.dumps(record, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(record))
    if draw:
        draw(record, path.with_suffix(".svg"))
    return records.shown(path)


def words_of(bench, arguments, parts):
    """For the file's name: the parts only where they were chosen."""
    return [bench, *(arguments.only if list(arguments.only) != list(parts) else [])]
