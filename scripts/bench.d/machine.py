"""The machine under the bench: what it is, what processes use of it, and how much of it others use meanwhile."""

import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def describe(cores):
    """What a record must say about the machine."""
    cpu, memory = {}, {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        cpu[key.strip()] = value.strip()
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        memory[key] = value.strip()
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", "unknown"),
        "cpu_family_model": [cpu.get("cpu family"), cpu.get("model")],
        "vector_flags": [flag for flag in flags if flag.startswith(("avx512", "avx2", "avx_vnni", "avx512_vnni"))],
        "cores_in_machine": os.cpu_count(),
        "cores_used": cores,
        "memory": memory.get("MemTotal"),
        "kernel": os.uname().release,
    }


def bind(cores):
    """Everything that is started from here runs on the same first cores. Returns how many there are."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, allowed)
    return len(allowed)


def tree(pid):
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        for task in pathlib.Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def cpu_seconds(pid):
    """Processor time of a process and its descendants."""
    total = 0.0
    for each in tree(pid):
        try:
            fields = pathlib.Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def resident_bytes(pid):
    """Resident memory of a process and its descendants: all of it, and the part that maps no file."""
    everything = anonymous = 0
    for each in tree(pid):
        try:
            lines = pathlib.Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:
            continue
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "RssAnon"))}
        everything += values.get("VmRSS", 0)
        anonymous += values.get("RssAnon", 0)
    return {"rss": everything, "anonymous": anonymous}


def folder_bytes(folder):
    """What files take on disk; a file that is linked twice counts once."""
    sizes = {}
    for path in pathlib.Path(folder).rglob("*"):
        try:
            stat = path.lstat()
        except OSError:
            continue
        if path.is_file() and not path.is_symlink():
            sizes[stat.st_ino] = stat.st_blocks * 512
    return sum(sizes.values())


def busy_seconds():
    """Processor time that all processes of the machine have used."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


class Watch:
    """Processor time, in cores, of named processes and of all others, while a block runs."""

    def __init__(self, processes):
        self.processes = processes

    def __enter__(self):
        self.began = (time.monotonic(), busy_seconds(), {name: cpu_seconds(pid) for name, pid in self.processes.items()})
        return self

    def __exit__(self, *_):
        seconds = max(time.monotonic() - self.began[0], 1e-9)
        self.cores = {name: round((cpu_seconds(pid) - self.began[2][name]) / seconds, 3) for name, pid in self.processes.items()}
        self.all_cores = (busy_seconds() - self.began[1]) / seconds

    def others(self, client_cores):
        """Cores taken by processes that are none of the bench's."""
        return round(max(0.0, self.all_cores - sum(self.cores.values()) - client_cores), 3)
