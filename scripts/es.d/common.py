"""What the parts of `scripts/es` share: places, progress on stderr, locks, and processes."""

import contextlib
import fcntl
import os
import pathlib
import pwd
import subprocess
import sys

USER = "outrigger-es"


class Failure(Exception):
    """A reason that a person can act on; printed without a traceback."""


def say(message):
    print(f"es: {message}", file=sys.stderr, flush=True)


def cache_root():
    """Where jars and nodes live. As root not below /root: the node runs as a user of its own, who could not read it there."""
    if given := os.environ.get("OUTRIGGER_CACHE"):
        return pathlib.Path(given).absolute() / "es"
    if os.geteuid() == 0:
        return pathlib.Path("/var/cache/outrigger/es")
    return pathlib.Path.home() / ".cache/outrigger/es"


@contextlib.contextmanager
def lock(path):
    """Holds an exclusive lock on `path` over processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command, **options):
    """Runs a command to its end; its output becomes the reason when it fails."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(map(str, command[:3]))} …` failed ({done.returncode}):\n{done.stdout[-3000:]}")
    return done.stdout


def process_start(pid):
    """The start time of a running process in ticks, or None; with the pid it names a process even after pids were used again."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    return None if state in "ZX" else int(fields[18])


def node_user():
    """The user that a node runs as when we are root (Elasticsearch refuses root), or None when we are not."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        with lock(cache_root() / ".user.lock"):
            with contextlib.suppress(KeyError):
                return pwd.getpwnam(USER)
            say(f"creating the system user {USER}: Elasticsearch refuses to run as root")
            run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER])
        return pwd.getpwnam(USER)
