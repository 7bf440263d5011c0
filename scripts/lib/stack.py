"""Elasticsearch (by scripts/es) and Outrigger beside it, started and stopped together: for the quick start and for tests."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time

from ports import free_ports
from process import Process, Stop
from web import Web

ROOT = pathlib.Path(__file__).resolve().parents[2]
ES = ROOT / "scripts/es"
STARTED = time.monotonic()


def say(message):
    """Progress, with the seconds since the start."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {message}", flush=True)


class Stack:
    """Starts both, then `close` ends what was started."""

    def __init__(self, binary=None, version=None, heap="1g", ports=(0, 0), config=None):
        self.binary = binary
        self.version = version
        self.heap = heap
        self.ports = ports
        self.config = config
        self.url = self.admin = None
        self.elasticsearch = os.environ.get("ELASTICSEARCH_URL", "").rstrip("/")
        self.own_elasticsearch = not self.elasticsearch
        self.node = None
        self.outrigger = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="outrigger-stack-"))

    def start(self):
        """Elasticsearch starts (and fetches its jars) while Outrigger compiles: the first waits for the network, the second for the processor."""
        failure = []
        helper = threading.Thread(target=self.start_elasticsearch, args=(failure,))
        helper.start()
        try:
            binary = pathlib.Path(self.binary) if self.binary else build()
        finally:
            helper.join()
        if failure:
            raise failure[0]
        self.start_outrigger(binary)

    def before(self, elasticsearch, config=None):
        """Another Outrigger, in front of something else or with a configuration file of this text; to be closed by the caller."""
        other = Stack(self.binary, config=config)
        other.elasticsearch, other.own_elasticsearch = elasticsearch, False
        other.start_outrigger(pathlib.Path(self.binary))
        return other

    def start_elasticsearch(self, failure):
        try:
            if not self.own_elasticsearch:
                version = Web(self.elasticsearch).expect("GET", "/")["version"]["number"]
                say(f"using Elasticsearch {version} at {self.elasticsearch}")
                return
            version = self.version or newest_runnable()
            say(f"starting Elasticsearch {version}")
            command = [ES, "start", version, "--heap", self.heap, "--exit-with", str(os.getpid())]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, start_new_session=True)
            if done.returncode != 0:
                raise Stop("Elasticsearch did not start (the reason is above)")
            self.node = json.loads(done.stdout)
            self.elasticsearch = self.node["url"]
            say(f"Elasticsearch {version} answers on {self.elasticsearch}")
        except Exception as reason:
            failure.append(reason)

    def start_outrigger(self, binary):
        listen, admin = free_ports(*self.ports)
        self.url, self.admin = f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{admin}"
        command = [binary, "serve", "--listen", f"127.0.0.1:{listen}", "--upstream", self.elasticsearch]
        command += ["--data-dir", self.folder / "data", "--admin-listen", f"127.0.0.1:{admin}"]
        if self.config:
            (self.folder / "outrigger.toml").write_text(self.config)
            command += ["--config", self.folder / "outrigger.toml"]
        self.outrigger = Process("Outrigger", command, self.folder / "outrigger.log")
        self.outrigger.wait_until(lambda: Web(self.url, timeout=5).send("GET", "/")[0] == 200, within=30)
        say(f"Outrigger answers on {self.url} (admin: {self.admin})")

    def close(self):
        if self.outrigger is not None:
            self.outrigger.close()
        if self.node is not None:
            subprocess.run([ES, "stop", self.node["name"]], check=False, start_new_session=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def newest_runnable():
    """9.2.0 where a Java for it is at hand, else the newest 8.x."""
    lines = subprocess.run([ES, "versions"], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    runnable = [line.split("\t")[0] for line in lines if not line.split("\t")[1].startswith("no")]
    for version in ("9.2.0", "8.15.3"):
        if version in runnable:
            return version
    raise Stop("no JDK here runs Elasticsearch; `scripts/es versions` says why")


def build():
    """Compiles the release binary; cargo's own progress is shown. Returns its path."""
    say("building Outrigger (the first time takes some minutes)")
    command = ["cargo", "build", "--release", "-p", "outrigger", "--bin", "outrigger", "--message-format", "json-render-diagnostics"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    path = None
    for line in process.stdout:
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "outrigger":
            path = pathlib.Path(message["executable"])
    if process.wait() != 0 or path is None:
        raise Stop("the build failed (the reason is above)")
    return path
