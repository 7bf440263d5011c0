"""What a process holds, again and again, and whether it keeps growing."""

import itertools
import os
import pathlib
import statistics
import time

from stack import Stop, say

MIB = 1 << 20
# Name, unit, what the second half may add: a share of the median, and an amount that is always allowed.
MEASURES = {
    "resident": ("MiB", 0.05, 8),
    "descriptors": ("", 0.05, 4),
    "threads": ("", 0.0, 2),
    "disk": ("MiB", 0.25, 4),
    "files": ("", 0.25, 10),
}
SAMPLES = 240


class Samples:
    """Of one process and its data directory."""

    def __init__(self, pid, folder):
        self.pid, self.folder = pid, folder
        self.taken = []

    def watch(self, seconds, check, work, checks):
        """Samples and checks until the time is up; a line each minute (or ten in all)."""
        began = time.monotonic()
        every, say_every, check_every = max(1.0, seconds / SAMPLES), max(5.0, min(60.0, seconds / 10)), max(5.0, min(30.0, seconds / 20))
        said = checked = began
        while (now := time.monotonic()) - began < seconds:
            self.taken.append((now - began, self.sample()))
            if now - checked >= check_every:
                checked = now
                check()
            if now - said >= say_every:
                said = now
                newest = ", ".join(f"{name} {shown(name, value)}" for name, value in self.taken[-1][1].items())
                say(f"{newest}; {work.writes} writes, {work.searches} searches, {checks.agreed} of {checks.rounds} checks agree")
            time.sleep(max(0.0, every - (time.monotonic() - now)))

    def sample(self):
        process = pathlib.Path(f"/proc/{self.pid}")
        try:
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
            descriptors = len(os.listdir(process / "fd"))
        except (OSError, ValueError) as error:
            raise Stop(f"Outrigger is gone: {error}") from error
        if "VmRSS" not in status:
            raise Stop("Outrigger has ended")
        size, files = 0, 0
        seen = set()
        for place in self.folder.rglob("*"):
            # Snapshots come and go while we look, and share files.
            try:
                stat = place.lstat()
            except OSError:
                continue
            if place.is_file() and stat.st_ino not in seen:
                seen.add(stat.st_ino)
                size, files = size + stat.st_size, files + 1
        return {
            "resident": int(status["VmRSS"].split()[0]) / 1024,
            "descriptors": descriptors,
            "threads": int(status["Threads"]),
            "disk": size / MIB,
            "files": files,
        }

    def report(self):
        """Prints the table; returns what keeps growing."""
        half = self.taken[len(self.taken) // 2 :]
        failures = []
        print(f"\n{'':12} {'first':>10} {'median':>10} {'highest':>10} {'last':>10}   second half adds (allowed)")
        for name, (unit, share, always) in MEASURES.items():
            values = [sample[name] for _, sample in self.taken]
            median = statistics.median(values)
            adds = slope([(at, sample[name]) for at, sample in half]) * (half[-1][0] - half[0][0]) if len(half) > 1 else 0.0
            allowed = max(share * median, always)
            row = "".join(f" {shown(name, value):>10}" for value in (values[0], median, max(values), values[-1]))
            print(f"{name:12}{row}   {adds:+.1f} ({allowed:.1f}) {unit}")
            if adds > allowed:
                failures.append(f"{name} keeps growing: {adds:+.1f} {unit} in the second half, {allowed:.1f} are allowed")
        return failures


def slope(points):
    """The median of the slopes between all pairs (Theil and Sen): a peak moves it little."""
    slopes = [(b - a) / (t - s) for (s, a), (t, b) in itertools.combinations(points, 2) if t > s]
    return statistics.median(slopes) if slopes else 0.0


def shown(name, value):
    return f"{value:.1f} MiB" if MEASURES[name][0] else f"{value:.0f}"
