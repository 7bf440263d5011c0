"""Builds the home of one Elasticsearch version from Maven Central: jars, launcher, our small plugins, native libraries."""

import glob
import hashlib
import os
import pathlib
import platform
import shutil
import tempfile
import time
import zipfile

import java
from common import Failure, cache_root, lock, run, say

HERE = pathlib.Path(__file__).resolve().parent
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
PLUGIN_NAME = "outrigger-test-root"
SECURITY_NAME = "outrigger-test-security"

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>outrigger.test</groupId><artifactId>elasticsearch-home</artifactId><version>1</version><dependencies>
<dependency><groupId>org.elasticsearch</groupId><artifactId>elasticsearch</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.elasticsearch.plugin</groupId><artifactId>transport-netty4</artifactId><version>{version}</version></dependency>
</dependencies></project>
"""

SPEC_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>outrigger.test</groupId><artifactId>elasticsearch-spec</artifactId><version>1</version><dependencies>
<dependency><groupId>org.elasticsearch</groupId><artifactId>rest-api-spec</artifactId><version>{version}</version></dependency>
</dependencies></project>
"""

DESCRIPTOR = """description={description}
version={version}
name={name}
classname={classname}
java.version=17
elasticsearch.version={version}
"""

LOG4J = """status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] [%node_name]%marker %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def fetch(version):
    """Returns the home of `version`, built first where it is missing or older than its sources."""
    jdk = java.for_version(version)
    root = cache_root()
    home = root / f"{version}-{fingerprint(jdk)}"
    if home.is_dir():
        return home
    with lock(root / f".{version}.lock"):
        if home.is_dir():
            return home
        if shutil.which("mvn") is None:
            raise Failure("maven is missing: `apt-get install maven`")
        started = time.monotonic()
        say(f"Elasticsearch {version}: fetching jars from Maven Central (about 40 MB, once)")
        build = pathlib.Path(tempfile.mkdtemp(prefix=f".{version}-building-", dir=root))
        try:
            fill(build, version, jdk)
            run(["chmod", "-R", "a+rX", build])
            build.rename(home)
        finally:
            shutil.rmtree(build, ignore_errors=True)
        say(f"Elasticsearch {version}: ready in {time.monotonic() - started:.0f} s")
    return home


def spec(version):
    """The folder with the description of each REST API of `version`, fetched first where it is missing."""
    root = cache_root()
    folder = root / f"spec-{version}"
    with lock(root / f".spec-{version}.lock"):
        if not folder.is_dir():
            build = pathlib.Path(tempfile.mkdtemp(prefix=".spec-building-", dir=root))
            try:
                (build / "pom.xml").write_text(SPEC_POM.format(version=version))
                run(["mvn", "-q", "-B", "-f", build / "pom.xml", DEPENDENCY_PLUGIN, f"-DoutputDirectory={build}/lib"])
                for jar in build.glob("lib/rest-api-spec-*.jar"):
                    zipfile.ZipFile(jar).extractall(build)
                run(["chmod", "-R", "a+rX", build])
                (build / "rest-api-spec/api").rename(folder)
            finally:
                shutil.rmtree(build, ignore_errors=True)
    return folder


def fingerprint(jdk):
    """Names a home after all it is made of, so that a changed source or compiler makes a new one beside homes in use."""
    digest = hashlib.sha256(f"{jdk.major} {platform.machine()} {native_sources()}".encode())
    for source in sorted(HERE.rglob("*")):
        if source.suffix in (".java", ".c") or source.name == "home.py":
            digest.update(source.read_bytes())
    return digest.hexdigest()[:10]


def fill(home, version, jdk):
    for folder in ("lib", "modules/transport-netty4", f"modules/{PLUGIN_NAME}", f"modules/{SECURITY_NAME}", "plugins", "launcher"):
        (home / folder).mkdir(parents=True)
    (home / "log4j2.properties").write_text(LOG4J)
    copy_jars(home, version)
    for jar in [*home.glob("lib/transport-netty4-*.jar"), *home.glob("lib/netty-*.jar")]:
        jar.rename(home / "modules/transport-netty4" / jar.name)
    describe(home, version, "transport-netty4", "org.elasticsearch.transport.netty4.Netty4Plugin", "HTTP and transport, as in a distribution")
    compile_java(home, version, jdk)
    describe(home, version, PLUGIN_NAME, "RootPlugin", "GET / and HEAD /, in place of the module rest-root")
    stand_in = "org.elasticsearch.xpack.standin.SecurityPlugin"
    describe(home, version, SECURITY_NAME, stand_in, "users, roles and API keys from a file, in place of x-pack security; off unless asked for")
    native_libraries(home)


def copy_jars(home, version):
    (home / "pom.xml").write_text(POM.format(version=version))
    command = ["mvn", "-q", "-B", "-f", home / "pom.xml", DEPENDENCY_PLUGIN, f"-DoutputDirectory={home}/lib", "-DincludeScope=runtime"]
    for attempt in range(3):
        try:
            run(command)
            break
        except Failure as failure:
            if attempt == 2 or "Could not find artifact" in str(failure):
                raise
            say("maven failed, trying again")


def describe(home, version, name, classname, description):
    text = DESCRIPTOR.format(version=version, name=name, classname=classname, description=description)
    (home / "modules" / name / "plugin-descriptor.properties").write_text(text)


def compile_java(home, version, jdk):
    interface = "until-8.11" if java.parse_version(version) < (8, 12, 0) else "from-8.12"
    compile_with = [jdk.tool("javac"), "-nowarn", "-cp", f"{home}/lib/*"]
    run([*compile_with, "-d", home / "launcher", HERE / "Launcher.java"])
    for name, folder in ((PLUGIN_NAME, HERE / "plugin"), (SECURITY_NAME, HERE / "security")):
        with tempfile.TemporaryDirectory() as classes:
            run([*compile_with, "-d", classes, *sorted(folder.glob("*.java")), *sorted((folder / interface).glob("*.java"))])
            run([jdk.tool("jar"), "--create", "--file", home / f"modules/{name}/{name}.jar", "-C", classes, "."])


def native_sources():
    """The system's libzstd and C compiler, or None where one is missing."""
    found = [path for pattern in ("/usr/lib/*/libzstd.so.1", "/usr/lib*/libzstd.so.1", "/lib*/libzstd.so.1") for path in glob.glob(pattern)]
    compiler = shutil.which("gcc") or shutil.which("cc")
    return (os.path.realpath(found[0]), compiler) if found and compiler else None


def native_libraries(home):
    """`libzstd` and `libvec`: only with both does Elasticsearch switch its native code on."""
    machine = {"x86_64": "x64", "aarch64": "aarch64"}.get(platform.machine())
    if machine is None:
        say(f"no native code for {platform.machine()}: the node will score vectors more slowly than a distribution does")
        return
    sources = native_sources()
    if sources is None:
        say("no libzstd or no gcc: the node will score vectors more slowly than a distribution does (`apt-get install gcc libzstd1`)")
        return
    zstd, compiler = sources
    folder = home / f"lib/platform/linux-{machine}"
    folder.mkdir(parents=True)
    shutil.copyfile(zstd, folder / "libzstd.so")
    run([compiler, "-O3", "-ffast-math", "-fPIC", "-shared", "-o", folder / "libvec.so", HERE / "vec.c"])
