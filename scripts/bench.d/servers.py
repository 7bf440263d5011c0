"""Elasticsearch and Outrigger for a bench: started, watched and stopped."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import machine
from places import ROOT
from ports import free_ports
from process import Process, Stop
from stack import ES, say
from web import Web


# An index that is not on disk yet is learnt before a node calls itself ready.
READY_WITHIN = 900


class Servers:
    """One Elasticsearch node, and Outrigger processes in front of it. Use with `with`."""

    def __init__(self, version, heap, binary, settings=()):
        self.version, self.heap, self.binary, self.settings = version, heap, binary, settings
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="outrigger-bench-"))
        self.folder.chmod(0o755)
        self.running = []
        self.node = None

    def __enter__(self):
        try:
            self.start_elasticsearch()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def start_elasticsearch(self):
        say(f"starting Elasticsearch {self.version} with a heap of {self.heap}")
        command = [ES, "start", self.version, "--heap", self.heap, "--exit-with", str(os.getpid()), *(part for setting in self.settings for part in ("--setting", setting))]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, start_new_session=True)
        if done.returncode != 0:
            raise Stop("Elasticsearch did not start (the reason is above)")
        self.node = json.loads(done.stdout)
        self.es_pid = self.node["pid"]
        self.elasticsearch = self.node["url"].removeprefix("http://")
        self.es = Web(self.node["url"], timeout=1800)
        jvm = self.es.expect("GET", "/_nodes/_local/jvm")["nodes"]
        self.java = next(iter(jvm.values()))["jvm"]["version"]

    def outrigger(self, name="outrigger", *options):
        """Starts Outrigger on the data folder of that name, which is empty the first time."""
        started = Outrigger(self.binary, self.node["url"], self.folder / name, options)
        self.running.append(started)
        return started

    def stop(self, server):
        server.close()
        self.running.remove(server)

    def keep(self, server):
        """Something else that ends with the bench."""
        self.running.append(server)
        return server

    def close(self):
        for server in reversed(self.running):
            server.close()
        if self.node is not None:
            subprocess.run([ES, "stop", self.node["name"], "--forget"], check=False, start_new_session=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Outrigger(Process):
    """One process, with a data folder."""

    def __init__(self, binary, upstream, folder, options=()):
        folder.mkdir(exist_ok=True)
        self.data = folder / "data"
        self.server, self.admin = (f"127.0.0.1:{port}" for port in free_ports(0, 0))
        command = [binary, "serve", "--listen", self.server, "--upstream", upstream, "--data-dir", self.data, "--admin-listen", self.admin, *options]
        began = time.monotonic()
        super().__init__("Outrigger", command, folder / "log")
        self.web = Web(f"http://{self.server}", timeout=1800)
        self.wait_until(lambda: Web(f"http://{self.admin}", timeout=5).send("GET", "/health/ready")[0] == 200, READY_WITHIN)
        self.ready_s = time.monotonic() - began
        say(f"Outrigger answers on {self.server}, ready after {self.ready_s:.2f} s")

    def stats(self, index):
        """The report of one index, or None while Outrigger does not know it."""
        status, _, stats = self.web.send("GET", f"/_ivf/{index}/_stats")
        return stats if status == 200 else None

    def usage(self):
        return machine.resident_bytes(self.pid) | {"disk": machine.folder_bytes(self.data)}


def source_version():
    """The commit of the sources here, as far as git can say."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip() or "unknown"
