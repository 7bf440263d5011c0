"""What a record of a run begins with, and where it goes."""

import datetime

import machine
from places import RECORDS, ROOT
from servers import source_version


def new(bench, arguments, cores, load_at_start):
    """A record without parts."""
    return {
        "bench": bench,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "label": arguments.label,
        "quick": arguments.quick,
        "machine": machine.describe(cores) | {"load_at_start": load_at_start},
        "versions": {"outrigger": arguments.commit or source_version()},
        "parts": {},
    }


def path(arguments, record, words):
    """The file: what was asked for, else one named by the date, the machine and `words` (empty ones left out); None for a quick run."""
    if arguments.record is not None:
        return arguments.record
    if arguments.quick:
        return None
    words = [record["date"][:10], record["machine"]["cpu"], *words, arguments.label]
    name = "-".join("".join(c if c.isalnum() else "-" for c in word.lower()).strip("-") for word in words if word)
    RECORDS.mkdir(exist_ok=True)
    return RECORDS / f"{name}.json"


def shown(path):
    """As people are told of it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
