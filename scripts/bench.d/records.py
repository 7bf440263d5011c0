"""Where the record of a run goes."""

from places import RECORDS, ROOT


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
