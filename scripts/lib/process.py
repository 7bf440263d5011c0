"""A server that a script starts: its output goes to a file, it is waited for until it answers, and ended in order."""

import pathlib
import socket
import subprocess
import time


class Stop(Exception):
    """A reason to end, for the person at the terminal."""


class Process:
    """One server process."""

    def __init__(self, name, command, log, environment=None):
        self.name, self.log = name, pathlib.Path(log)
        with open(self.log, "ab") as out:
            # A session of its own: Ctrl-C reaches us alone, and we end things in order.
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
            )

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process.poll() is None

    def wait_until(self, answers, within):
        """Returns when `answers` is true; while nobody listens it may raise an OSError."""
        deadline = time.monotonic() + within
        while True:
            try:
                if answers():
                    return
            except OSError:
                pass
            if not self.is_running() or time.monotonic() > deadline:
                raise Stop(f"{self.name} did not start; its log ends:\n{self.log_end()}")
            time.sleep(0.01)

    def log_end(self):
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-15:])

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()


def listens(address):
    """Whether somebody takes connections at host:port."""
    host, _, number = address.partition(":")
    socket.create_connection((host, int(number)), timeout=1).close()
    return True
