"""Ports for servers that a script starts."""

import errno
import itertools
import os
import random
import socket

# Below the ports that Linux gives to outgoing connections, so that none is taken before its server, or between two runs of it.
RANGE = range(20_000, 32_000)


def free_ports(*wanted):
    """A free port for each that is wanted (0: any), all different; another one where the wanted one is taken."""
    found = []
    for port in wanted:
        candidates = itertools.chain([port] if port else [], random.sample(RANGE, len(RANGE)))
        free = next((candidate for candidate in candidates if candidate not in found and is_free(candidate)), None)
        if free is None:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        found.append(free)
    return found


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
