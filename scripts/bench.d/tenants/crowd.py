"""Many connections that do nothing, or nearly nothing: memory, and what others notice."""

import contextlib
import resource
import selectors
import socket
import threading
import time

import machine
from stack import say
from statistics_of import median, summary

import world

IDLE, SLOW = 10_000, 1_000
HEAD = b"POST /bench-small/_search HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"


def run(here):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    idle, slow = (1_000, 100) if here.quick else (IDLE, SLOW)
    if most < idle + slow + 500:
        raise RuntimeError(f"needs {idle + slow + 500} open files, the limit is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    outrigger = here.outrigger("crowd", {"normal": {}}, "--max-connections", str(2 * (idle + slow)))
    here.client.processes = {"outrigger": outrigger.pid}
    requests = here.small(outrigger)
    host, _, number = outrigger.server.partition(":")
    address = (host, int(number))
    rounds = []
    for _ in range(here.rounds):
        before = machine.resident_bytes(outrigger.pid)["rss"]
        alone = sample(here, outrigger, requests)
        with crowd(address, idle, slow) as slow_ones:
            among = sample(here, outrigger, requests)
            resident = machine.resident_bytes(outrigger.pid)["rss"]
            rounds.append({"alone": alone, "among": among, "rss_before": before, "rss": resident, "slow_still_open": slow_ones.open()})
        say(f"{idle:,} idle and {slow:,} slow connections: {resident / 1e6:.0f} MB resident, p99 {among['p99_us']:.0f} against {alone['p99_us']:.0f} µs")
    here.servers.stop(outrigger)
    return {
        "idle": idle,
        "slow": slow,
        "rss_mb": round(median([each["rss"] for each in rounds]) / 1e6, 1),
        "rss_before_mb": round(median([each["rss_before"] for each in rounds]) / 1e6, 1),
        "p99_ratio": summary([each["among"]["p99_us"] / each["alone"]["p99_us"] for each in rounds], 2),
        "rounds": rounds,
    }


def sample(here, outrigger, requests):
    result = here.client.offered(outrigger.server, requests, 8, here.seconds, warm_up=0.5, options=["--rate", "2000", *world.header("normal")])
    if result["errors"]:
        raise RuntimeError(f"{result['errors']} requests of normal clients failed")
    return result


@contextlib.contextmanager
def crowd(address, idle, slow):
    """Opens them all; the slow ones send one byte of a request each second."""
    with contextlib.ExitStack() as stack:
        for _ in range(idle):
            stack.enter_context(socket.create_connection(address, timeout=10))
        slow_ones = Slow([stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(slow)])
        stack.callback(slow_ones.stop)
        time.sleep(1.0)
        yield slow_ones


class Slow:
    """Clients that send their requests one byte at a time."""

    def __init__(self, connections):
        self.connections, self.ended = connections, threading.Event()
        self.thread = threading.Thread(target=self.drip, daemon=True)
        self.thread.start()

    def drip(self):
        at = 0
        while not self.ended.wait(1.0):
            byte = HEAD[at % len(HEAD) : at % len(HEAD) + 1]
            at += 1
            for connection in self.connections:
                # One that the server has closed is no longer slow, and that is what limits are for.
                with contextlib.suppress(OSError):
                    connection.send(byte)

    def open(self):
        """How many the server has not closed."""
        with selectors.DefaultSelector() as selector:
            for connection in self.connections:
                selector.register(connection, selectors.EVENT_READ)
            return len(self.connections) - len(selector.select(0))

    def stop(self):
        self.ended.set()
        self.thread.join()
