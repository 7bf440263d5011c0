"""What a record of a run and its page begin with, and where they go."""

import datetime

import machine
from places import RECORDS, ROOT
from servers import source_version

# What a page says where the machine was busy: of figures taken one after the other, and of ratios within rounds.
FIGURES_MEAN_LITTLE = "**The machine was busy with other work, or the run was a quick one**: the figures mean little."
RATIOS_COUNT = "**The machine was busy with other work**: ratios between alternating rounds count, absolute figures do not."


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


def heading(record, about="", caution=FIGURES_MEAN_LITTLE):
    """The first lines of a page about servers that ran side by side."""
    computer = record["machine"]
    lines = [title(record), "", f"{computer['cpu']}, {computer['cores_used']} cores for all processes, {computer['memory']} of memory; {circumstances(record)}{about}"]
    if is_noisy(record):
        lines += ["", caution]
    return lines


def title(record):
    return f"# scripts/bench {record['bench']}, {record['date']}"


def circumstances(record):
    """How busy the machine was, and the versions of everybody."""
    computer, versions = record["machine"], record["versions"]
    loads = f"load average {computer['load_at_start'][0]:.1f} at the start, {computer['load_at_end'][0]:.1f} at the end"
    return f"{loads}; {', '.join(f'{name} {version}' for name, version in versions.items())}."


def is_noisy(record):
    """Whether absolute figures mean little."""
    return record["machine"]["load_at_start"][0] > 1 or record["quick"]
