"""The official clients as their tests run them: how each is installed, kept in the cache folder, and started (tests/clients).

A client is a language and a major version, `python8`. Its tests print one line per feature: `ok NAME` or `not ok NAME`."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "es.d"))

import java as jdks  # noqa: E402
from stack import ROOT, Stop, say  # noqa: E402

CLIENTS = ROOT / "tests/clients"
CACHE = pathlib.Path(os.environ.get("OUTRIGGER_CACHE") or pathlib.Path.home() / ".cache/outrigger")
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
PYTHON_PACKAGES = ("pytest==8.*", "numpy==2.*")
# What the files of the Python tests show, in the words of the others; `test_connection.py` names its features itself.
PYTHON_FEATURES = {
    "test_lifecycle": ["create index"],
    "test_writes": ["documents", "bulk helper"],
    "test_search": ["knn search", "knn with filter", "knn query", "retrievers", "msearch"],
    "test_paging": ["scroll", "point in time"],
    "test_errors": ["errors"],
    "test_limits": ["tenant limits", "errors of limits", "quotas"],
    "test_ways": ["query language", "vector store", "parameters of requests", "lost nodes", "cancelled requests"],
    "test_async": ["asynchronous client"],
    "test_passthrough": ["everything else passes"],
    "test_tls": ["TLS"],
}
TOOLS = {
    "javascript": ("npm", "node 18 or later and npm (`apt-get install npm`)"),
    "go": ("go", "Go 1.23 or later"),
    "java": ("mvn", "maven (`apt-get install maven`)"),
    "rust": ("cargo", "Rust"),
}


class Client:
    """One client: `prepare` installs it, `command` runs its tests."""

    def __init__(self, name):
        self.name = name
        match = re.fullmatch(r"(python|javascript|go|java|rust|frameworks)(\d*)", name)
        if not match or (match[1] == "frameworks") == bool(match[2]):
            raise Stop(f"{name!r} is no client; known are python8, python9, javascript8 … and frameworks")
        self.language, self.major = match[1], match[2]
        self.folder = CLIENTS / self.language

    def missing(self):
        """What this machine lacks to run it; None when nothing."""
        program, wanted = TOOLS.get(self.language, ("python3", ""))
        return None if shutil.which(program) else wanted

    def prepare(self):
        if wanted := self.missing():
            raise Stop(f"{self.name} needs {wanted}")
        return getattr(self, f"prepare_{self.language}")()

    def run(self, environment, for_pytest=()):
        """Runs the tests; returns exit status and `{feature: passed}`."""
        command, folder, more = self.command(for_pytest)
        say(f"{self.name} ({self.version()})")
        results = CACHE / "clients" / f"results-{os.getpid()}.txt"
        variables = os.environ | environment | more | {"OUTRIGGER_RESULTS": str(results), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen([str(part) for part in command], cwd=folder, env=variables, stdout=subprocess.PIPE, text=True)
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
        status = process.wait()
        if results.exists():
            lines += results.read_text().splitlines()
            results.unlink()
        return status, self.features(lines)

    def kept(self, version):
        """Where the outcome of its last run with this Elasticsearch is kept; what other tests showed is another file."""
        sources = sorted(file for file in self.folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        return CACHE / "clients/outcomes" / f"{version}-{self.name}-{digest(sources)}.json"

    def keep(self, version, passed, features):
        place = self.kept(version)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps([passed, features]))

    def last(self, version):
        """`(passed, features)` of its last run with this Elasticsearch by the tests as they are; None where there was none."""
        place = self.kept(version)
        return tuple(json.loads(place.read_text())) if place.exists() else None

    def features(self, lines):
        found = {}
        for line in lines:
            if match := re.fullmatch(r"(not )?ok (.+)", line):
                for name in PYTHON_FEATURES.get(match[2], [match[2]]) if self.language == "python" else [match[2]]:
                    found[name] = found.get(name, True) and not match[1]
        return found

    def command(self, for_pytest):
        return getattr(self, f"command_{self.language}")(for_pytest)

    def version(self):
        """The exact version that was installed."""
        return getattr(self, f"version_{self.language}")()

    # Python: a virtual environment.

    def prepare_python(self):
        self.interpreter = made_environment(f"elasticsearch{self.major}", [[f"elasticsearch[async]=={self.major}.*", *PYTHON_PACKAGES]])

    def command_python(self, for_pytest):
        return [self.interpreter, "-m", "pytest", *for_pytest], self.folder, {}

    def version_python(self):
        return said([self.interpreter, "-c", "import elasticsearch; print(elasticsearch.__versionstr__)"])

    def prepare_frameworks(self):
        pinned = [self.folder / "requirements.txt", self.folder / "requirements-no-deps.txt"]
        self.interpreter = made_environment(f"frameworks-{digest(pinned)}", [["-r", pinned[0]], ["--no-deps", "-r", pinned[1]]])

    command_frameworks = command_python

    def version_frameworks(self):
        return "pinned"

    # JavaScript: both majors under names of their own, from one lock file.

    def prepare_javascript(self):
        files = [self.folder / "package.json", self.folder / "package-lock.json"]
        self.place = CACHE / "clients" / f"javascript-{digest(files)}"
        if not (self.place / "complete").exists():
            copy(self.folder, self.place)
            checked(["npm", "ci", "--silent", "--no-audit", "--no-fund"], self.place)
            (self.place / "complete").touch()
        copy(self.folder, self.place)

    def command_javascript(self, _):
        return ["node", "run.mjs", self.major], self.place, {}

    def version_javascript(self):
        return said(["node", "-p", f"require('./node_modules/elasticsearch{self.major}/package.json').version"], self.place)

    # Go: one source for both majors, which differ in their import paths.

    def prepare_go(self):
        self.place = CACHE / "clients" / f"go{self.major}"
        copy(self.folder, self.place)
        for source in self.place.glob("*_test.go"):
            source.write_text(source.read_text().replace("go-elasticsearch/v9", f"go-elasticsearch/v{self.major}"))
        checked(["go", "test", "-c", "-vet=off", "-o", "features", "."], self.place)

    def command_go(self, _):
        return ["./features"], self.place, {}

    def version_go(self):
        return re.search(rf"go-elasticsearch/v{self.major} v(\S+)", (self.folder / "go.mod").read_text())[1]

    # Java: the jars by maven, then the JDK alone.

    def prepare_java(self):
        pom = self.folder / self.major / "pom.xml"
        self.jdk = jdks.for_version("8.19.0")
        self.place = CACHE / "clients" / f"java{self.major}-{digest([pom])}"
        if not (self.place / "complete").exists():
            checked(["mvn", "-q", "-B", "-f", pom, DEPENDENCY_PLUGIN, f"-DoutputDirectory={self.place}/lib", "-DincludeScope=runtime"], ROOT)
            (self.place / "complete").touch()
        sources = [*self.folder.glob("*.java"), self.folder / self.major / "Connect.java"]
        checked([self.jdk.tool("javac"), "-nowarn", "-cp", f"{self.place}/lib/*", "-d", self.place / "classes", *sources], ROOT)

    def command_java(self, _):
        return [self.jdk.tool("java"), "-Xmx256m", "-cp", f"{self.place}/classes:{self.place}/lib/*", "Features"], self.place, {}

    def version_java(self):
        return re.search(r"<artifactId>elasticsearch-java</artifactId><version>([^<]+)", (self.folder / self.major / "pom.xml").read_text())[1]

    # Rust: a workspace of its own with both majors.

    def prepare_rust(self):
        self.target = CACHE / "clients/rust-target"
        checked(["cargo", "build", "--quiet", "--locked"], self.folder, {"CARGO_TARGET_DIR": str(self.target)})

    def command_rust(self, _):
        return [self.target / "debug/outrigger-client-tests", self.major], self.folder, {}

    def version_rust(self):
        return re.search(rf'name = "elasticsearch"\nversion = "({self.major}\.[^"]+)"', (self.folder / "Cargo.lock").read_text())[1]


def made_environment(name, installations):
    """The interpreter of the virtual environment `name`, made with these calls of pip where it is not there yet."""
    folder = CACHE / "venv" / f"python{sys.version_info.major}.{sys.version_info.minor}-{name}"
    interpreter = folder / "bin/python"
    complete = folder / "complete"
    if not complete.exists():
        say(f"making a virtual environment: {name}")
        venv.create(folder, clear=True, with_pip=True)
        for wanted in installations:
            checked([interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], ROOT)
        complete.touch()
    return interpreter


def copy(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "target"))


def digest(files):
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def checked(command, folder, environment=None):
    done = subprocess.run([str(part) for part in command], cwd=folder, env=os.environ | (environment or {}), check=False)
    if done.returncode != 0:
        raise Stop(f"failed with status {done.returncode}: {' '.join(map(str, command))}")


def said(command, folder=None):
    return subprocess.run([str(part) for part in command], cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
