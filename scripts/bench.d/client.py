"""The load generator (Rust, bench.d/loadgen), built and called."""

import json
import os
import pathlib
import subprocess
import tempfile

import machine
from places import ROOT
from stack import Stop


def build(package, binary, kind="bin"):
    """Compiles a release binary (or example) of the workspace; returns its path."""
    command = ["cargo", "build", "--release", "-p", package, f"--{kind}", binary, "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    path = None
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == binary:
            path = message["executable"]
    if done.returncode != 0 or path is None:
        raise Stop(f"{package} does not compile (the reason is above)")
    return path


def write_requests(path, requests):
    """Writes (method, path, body bytes) in the form that the load generator reads."""
    with open(path, "wb") as out:
        for method, target, body in requests:
            out.write(f"{method} {target} {len(body)}\n".encode())
            out.write(body)
            out.write(b"\n")
    return path


class Client:
    """Runs the load generator against one server after the other."""

    def __init__(self, binary):
        self.binary = binary
        self.processes = {}
        # Who signed the certificates of servers with https://.
        self.ca = None

    def timed(self, server, requests, connections, seconds, warm_up=0.3):
        """Throughput and latencies of a closed loop, with what it cost whom; nothing may fail."""
        result = self.offered(server, requests, connections, seconds, warm_up)
        if result["errors"]:
            raise Stop(f"{result['errors']} requests to {server} failed")
        return result

    def offered(self, server, requests, connections, seconds, warm_up=0.3, options=()):
        """The same where requests may be refused; `options` go to the load generator."""
        options = ["--seconds", str(seconds), "--warm-up", str(warm_up), *options]
        with machine.Watch(self.processes) as watch:
            result = self.run("timed", server, requests, connections, options)
        client_cores = result["cpu_s"] / seconds
        return result | {"client_cores": round(client_cores, 3), "server_cores": watch.cores, "other_cores": watch.others(client_cores)}

    def once(self, server, requests, connections, content_type="application/json"):
        """Every request once."""
        with machine.Watch(self.processes) as watch:
            result = self.run("once", server, requests, connections, ["--content-type", content_type])
        client_cores = result["cpu_s"] / result["seconds"]
        return result | {"client_cores": round(client_cores, 3), "server_cores": watch.cores, "other_cores": watch.others(client_cores)}

    def hits(self, server, requests, connections=2):
        """The ids that each search finds."""
        with tempfile.NamedTemporaryFile() as file:
            self.run("once", server, requests, connections, ["--hits", file.name])
            return [json.loads(line) for line in pathlib.Path(file.name).read_text().splitlines()]

    def run(self, mode, server, requests, connections, options):
        command = [self.binary, mode, "--server", server, "--requests", requests, "--connections", connections, *options]
        if server.startswith("https://"):
            command += ["--ca", self.ca]
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, env=os.environ | {"RUST_BACKTRACE": "0"})
        if done.returncode != 0:
            raise Stop(f"the load generator failed against {server}: {done.stderr.strip()[-800:]}")
        return json.loads(done.stdout)
