"""Starts, stops and lists nodes. A node is a folder `nodes/NAME` in the cache: node.json, config, data, logs, tmp."""

import base64
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import home
import java
from common import Failure, cache_root, lock, node_user, process_start, run, say

START_TIMEOUT = 180
STOP_TIMEOUT = 60


@dataclasses.dataclass
class Node:
    """One node as node.json holds it."""

    name: str
    version: str
    data: str
    heap: str = "1g"
    settings: dict = dataclasses.field(default_factory=dict)
    keep: bool = False
    exit_with: int | None = None
    http_port: int = 0
    transport_port: int = 0
    cluster: str | None = None
    # Users and roles of the stand-in for security, JSON text; None without security.
    security: str | None = None
    home: str = ""
    pid: int = 0
    pid_start: int = 0

    @property
    def folder(self):
        return nodes_root() / self.name

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def security_file(self):
        return self.folder / "config/security.json"

    @property
    def log(self):
        return self.folder / "node.log"

    def running(self):
        return self.pid > 0 and process_start(self.pid) == self.pid_start

    def save(self):
        beside = self.folder / "node.json.new"
        beside.write_text(json.dumps(dataclasses.asdict(self), indent=1))
        beside.rename(self.folder / "node.json")

    def summary(self):
        return {
            "url": self.url,
            "pid": self.pid,
            "version": self.version,
            "home": self.home,
            "name": self.name,
            "transport": f"127.0.0.1:{self.transport_port}",
            "data": self.data,
            "log": str(self.log),
        } | ({"cluster": self.cluster} if self.cluster else {})


def nodes_root():
    return cache_root() / "nodes"


def load(name):
    file = nodes_root() / name / "node.json"
    if not file.exists():
        raise Failure(f"there is no node {name!r}; `scripts/es list` shows all")
    return parse(file.read_text())


def parse(text):
    """A node as noted, perhaps by another version of this script: what it knows beyond us is left."""
    known = {field.name for field in dataclasses.fields(Node)}
    return Node(**{name: value for name, value in json.loads(text).items() if name in known})


def every():
    for file in sorted(nodes_root().glob("*/node.json")):
        # Another call may remove a node while we list.
        with contextlib.suppress(OSError):
            yield parse(file.read_text())


def members(cluster):
    """Nodes of a cluster, first to last."""
    return sorted((node for node in every() if node.cluster == cluster), key=lambda node: int(node.name.rsplit("-", 1)[1]))


def forget_orphans():
    """Removes what throw-away nodes left that ended with their owner, where nobody called `stop`."""
    for node in every():
        if not node.keep and node.exit_with and not node.running() and process_start(node.exit_with) is None:
            shutil.rmtree(node.folder, ignore_errors=True)


def start(node, fresh=False):
    """Starts `node` and waits until it answers searches."""
    node.home = str(home.fetch(node.version))
    with lock(nodes_root() / f".{node.name}.lock"):
        with contextlib.suppress(Failure):
            if load(node.name).running():
                raise AlreadyRunning(f"node {node.name!r} already runs; stop it first, or give another --name")
        if fresh:
            shutil.rmtree(node.data, ignore_errors=True)
        prepare(node)
        process = launch(node)
        node.pid, node.pid_start = process.pid, process_start(process.pid) or 0
        node.save()
        try:
            wait_until_ready(node, process)
        except BaseException:
            kill(node, signal.SIGKILL)
            if not node.keep:
                shutil.rmtree(node.folder, ignore_errors=True)
            raise
        node.save()


class AlreadyRunning(Exception):
    """Told apart from Failure, which also says that a node does not exist yet."""


def prepare(node):
    """Writes the node's folder, owned by the user that will run it."""
    for part in ("config", "logs", "tmp"):
        (node.folder / part).mkdir(parents=True, exist_ok=True)
    pathlib.Path(node.data).mkdir(parents=True, exist_ok=True)
    for ports in (node.folder / "logs").glob("*.ports"):
        ports.unlink()
    shutil.copyfile(pathlib.Path(node.home) / "log4j2.properties", node.folder / "config/log4j2.properties")
    if node.security is not None:
        write_security(node)
    lines = [f"{key}: {value if is_json(value) else json.dumps(value)}" for key, value in effective_settings(node).items()]
    (node.folder / "config/elasticsearch.yml").write_text("\n".join(lines) + "\n")
    if user := node_user():
        run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", node.folder, node.data])
        for place in (node.home, node.folder, node.data):
            probe = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "test", "-r", place]
            if subprocess.run(probe, check=False).returncode != 0:
                raise Failure(f"{user.pw_name}, as whom the node runs, cannot read {place}: choose another folder (OUTRIGGER_CACHE, --data)")


def write_security(node):
    """The node reads the file again when it has changed, so it is replaced at once and never seen half."""
    beside = node.security_file.with_suffix(".new")
    beside.write_text(node.security)
    beside.chmod(0o644)
    beside.rename(node.security_file)


def secure(node, text):
    """Gives a running node other users and roles, at once."""
    if node.security is None:
        raise Failure(f"node {node.name!r} was started without --security")
    node.security = checked_security(text)
    node.save()
    write_security(node)


def checked_security(text):
    try:
        json.loads(text)["users"]["elastic"]["password"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure("the file of users is JSON and has the user elastic, with a password and the role superuser: this script asks as it") from error
    return text


def credentials(node):
    """Headers of this script's own calls."""
    if node.security is None:
        return {}
    pair = f"elastic:{json.loads(node.security)['users']['elastic']['password']}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def get(node, path):
    return urllib.request.urlopen(urllib.request.Request(node.url + path, headers=credentials(node)), timeout=10)


def is_json(value):
    """Lists and objects given as JSON go into the YAML as they are; everything else is quoted."""
    return value[:1] in "[{" and value[-1:] in "]}"


def effective_settings(node):
    """Our defaults under the caller's own settings: one node, quiet, reachable from this machine only."""
    settings = {
        "path.home": node.home,
        "path.data": node.data,
        "path.logs": str(node.folder / "logs"),
        "node.name": node.name,
        "node.portsfile": "true",
        "network.host": "127.0.0.1",
        "http.port": str(node.http_port),
        "transport.port": str(node.transport_port),
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    if node.security is not None:
        settings["standin.security.file"] = str(node.security_file)
    if not {"discovery.seed_hosts", "cluster.initial_master_nodes"} & node.settings.keys():
        settings["discovery.type"] = "single-node"
    return settings | node.settings


def launch(node):
    command = java_command(node)
    if user := node_user():
        command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *command]
    environment = {key: os.environ[key] for key in ("PATH", "LANG", "TZ") if key in os.environ}
    environment |= {"LIBFFI_TMPDIR": str(node.folder / "tmp"), "HOME": str(node.folder / "tmp")}
    if node.log.exists():
        node.log.rename(node.log.with_suffix(".log.1"))
    # Own session, no terminal, no inherited pipe: a caller that reads our stdout to its end must not wait for the node.
    with open(node.log, "wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=node.folder, env=environment
        )


def java_command(node):
    jdk = java.for_version(node.version)
    place = pathlib.Path(node.home)
    natives = next(iter(place.glob("lib/platform/linux-*")), place / "lib")
    modules = "jdk.net,jdk.management" + (",jdk.incubator.vector" if jdk.major >= 21 else "")
    command = [jdk.tool("java"), f"-Xms{node.heap}", f"-Xmx{node.heap}", "-XX:+UseG1GC", "-Xss1m", "-XX:-UsePerfData", "-Dfile.encoding=UTF-8"]
    command += ["-Djava.awt.headless=true", "-Dio.netty.noUnsafe=true", "-Dio.netty.noKeySetOptimization=true", "-Dlog4j2.disable.jmx=true"]
    command += ["-Dlog4j2.formatMsgNoLookups=true", "-Djna.nosys=true", f"-Djna.tmpdir={node.folder}/tmp", f"-Djava.io.tmpdir={node.folder}/tmp"]
    command += [f"-Djna.library.path={natives}", f"-Djava.library.path={natives}", f"-Des.nativelibs.path={natives}"]
    command += [f"-Des.path.home={place}", f"-Des.path.conf={node.folder}/config", "-Des.distribution.type=tar"]
    command += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.io", "java.nio.channels")]
    command += [f"--add-modules={modules}", "--enable-native-access=ALL-UNNAMED"]
    if java.parse_version(node.version) < (8, 16, 0):
        # Up to 8.15 parts of the server find each other as modules only.
        command += ["--module-path", place / "lib", "--add-modules", "ALL-MODULE-PATH", "-cp", place / "launcher"]
        # For the stand-in for security, which looks at requests before their handlers do.
        command += ["--add-exports", "org.elasticsearch.server/org.elasticsearch.plugins.interceptor=ALL-UNNAMED"]
        command += ["--enable-native-access=org.elasticsearch.nativeaccess,org.apache.lucene.core"] if jdk.major >= 21 else []
    else:
        command += ["-cp", f"{place}/launcher:{place}/lib/*"]
    command += ["Launcher", node.folder / "config"] + ([node.exit_with] if node.exit_with else [])
    return [str(part) for part in command]


def wait_until_ready(node, process):
    """Reads the ports that the node bound, then waits for its health. Port 0 lets the system choose, so several starts never collide."""
    say(f"starting {node.name} ({node.version}, heap {node.heap})")
    started = time.monotonic()
    while True:
        if process.poll() is not None:
            raise Failure(f"the node ended while starting ({process.returncode}); the end of its log:\n{log_end(node)}")
        waited = time.monotonic() - started
        if waited > START_TIMEOUT:
            raise Failure(f"the node did not answer within {START_TIMEOUT} s; the end of its log:\n{log_end(node)}")
        with contextlib.suppress(OSError, ValueError, IndexError):
            node.http_port = read_port(node, "http")
            node.transport_port = read_port(node, "transport")
            if answers(node):
                say(f"{node.name} answers on {node.url} after {waited:.0f} s")
                return
        time.sleep(0.1)


def answers(node):
    """Whether a node can be used. A member of a cluster need only be up: whether it finds a master may depend on members that are down."""
    if node.cluster:
        get(node, "/_nodes/_local?filter_path=nodes.*.name")
        return True
    # A restarted node answers 408 or 503 until it has elected itself and recovered.
    health = json.load(get(node, "/_cluster/health?wait_for_status=yellow&timeout=5s"))
    return health["status"] in ("yellow", "green")


def read_port(node, kind):
    return int((node.folder / f"logs/{kind}.ports").read_text().split()[0].rsplit(":", 1)[1])


def log_end(node):
    return "".join(node.log.read_text(errors="replace").splitlines(keepends=True)[-40:]) if node.log.exists() else "(no log)"


def pause(node):
    """Freezes a running node: its sockets stay open and nothing answers, as in a long garbage collection or a cut network."""
    signal_running(node, signal.SIGSTOP)


def resume(node):
    signal_running(node, signal.SIGCONT)


def signal_running(node, with_signal):
    if not node.running():
        raise Failure(f"node {node.name!r} does not run")
    os.kill(node.pid, with_signal)


def stop(node, hard=False):
    """Ends the node's process, with SIGKILL when `hard`; then forgets a node that nobody named."""
    end(node, signal.SIGKILL if hard else signal.SIGTERM)
    if not node.keep:
        shutil.rmtree(node.folder, ignore_errors=True)


def end(node, with_signal):
    kill(node, with_signal)
    if node.running():
        say(f"{node.name} ignores SIGTERM for {STOP_TIMEOUT} s: killing it")
        kill(node, signal.SIGKILL)


def kill(node, with_signal):
    deadline = time.monotonic() + STOP_TIMEOUT
    while node.running() and time.monotonic() < deadline:
        if with_signal is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node.pid, with_signal)
                # A paused process would take SIGTERM only when it goes on.
                os.kill(node.pid, signal.SIGCONT)
            with_signal = None
        time.sleep(0.05)
