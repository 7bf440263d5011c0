"""Starts the nodes of a cluster side by side and waits until they have found each other."""

import concurrent.futures
import contextlib
import json
import os
import signal
import time

import home
import node as nodes
from common import Failure, say
from ports import free_ports

FORM_TIMEOUT = 180


def start(first, size, fresh=False):
    """Starts `size` nodes like `first`, named NAME-1 to NAME-size, and returns them. Several versions, after commas, go round among them."""
    versions = first.version.split(",")
    for version in versions:
        home.fetch(version)
    http_ports, ports = (found := free_ports(*[0] * (2 * size)))[:size], found[size:]
    names = [f"{first.name}-{number}" for number in range(1, size + 1)]
    together = {
        "cluster.name": first.name,
        "discovery.seed_hosts": json.dumps([f"127.0.0.1:{port}" for port in ports]),
        "cluster.initial_master_nodes": json.dumps(names),
        # A node opens its HTTP port even while it finds no master.
        "discovery.initial_state_timeout": "0s",
        # Many nodes share one machine: what is lost is noticed and replaced as fast as a test wants it.
        "cluster.fault_detection.follower_check.timeout": "3s",
        "cluster.fault_detection.leader_check.timeout": "3s",
    }
    members = [
        member(first, name, versions[number % len(versions)], *pair, together) for number, (name, *pair) in enumerate(zip(names, http_ports, ports, strict=True))
    ]
    try:
        start_together(members, fresh)
        wait_until_formed(members)
    except BaseException:
        for node in members:
            # The one that failed has ended; the others must not stay behind.
            with contextlib.suppress(Failure):
                nodes.stop(nodes.load(node.name), hard=True)
        raise
    return members


def start_together(members, fresh=False):
    with concurrent.futures.ThreadPoolExecutor(len(members)) as pool:
        list(pool.map(lambda node: nodes.start(node, fresh=fresh), members))


def member(first, name, version, http_port, transport_port, together):
    data = os.path.join(first.data, name) if first.data else str(nodes.nodes_root() / name / "data")
    return nodes.Node(
        name=name,
        version=version,
        data=data,
        heap=first.heap,
        settings=together | first.settings,
        keep=first.keep,
        exit_with=first.exit_with,
        http_port=http_port,
        transport_port=transport_port,
        cluster=first.name,
        security=first.security,
    )


def wait_until_formed(members):
    deadline = time.monotonic() + FORM_TIMEOUT
    path = f"/_cluster/health?wait_for_nodes={len(members)}&wait_for_status=yellow&timeout=5s&master_timeout=5s"
    while time.monotonic() < deadline:
        # 408 and 503 until a master is elected and all have joined.
        with contextlib.suppress(OSError, ValueError):
            if not json.load(nodes.get(members[0], path))["timed_out"]:
                say(f"{members[0].cluster}: {len(members)} nodes have found each other")
                return
        time.sleep(0.2)
    raise Failure(f"the nodes of {members[0].cluster!r} did not find each other within {FORM_TIMEOUT} s; see `scripts/es logs {members[0].name}`")


def end(members, hard=False):
    """Ends all at once: a member that is left alone would look for the others before it ends."""
    with_signal = signal.SIGKILL if hard else signal.SIGTERM
    with concurrent.futures.ThreadPoolExecutor(max(1, len(members))) as pool:
        list(pool.map(lambda node: nodes.end(node, with_signal), members))
