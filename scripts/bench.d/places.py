"""Where the benches keep things."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDS = pathlib.Path(__file__).resolve().parent / "record"


def cache():
    """The benches' cache folder, made if missing."""
    if given := os.environ.get("OUTRIGGER_CACHE"):
        folder = pathlib.Path(given).absolute() / "bench"
    elif os.geteuid() == 0:
        folder = pathlib.Path("/var/cache/outrigger/bench")
    else:
        folder = pathlib.Path.home() / ".cache/outrigger/bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
