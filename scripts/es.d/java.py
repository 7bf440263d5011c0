"""Finds the Java that a version of Elasticsearch runs on."""

import dataclasses
import os
import pathlib
import re
import shutil

from common import Failure


@dataclasses.dataclass(frozen=True)
class Jdk:
    home: pathlib.Path
    major: int

    def tool(self, name):
        return self.home / "bin" / name


def parse_version(text):
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", text)
    if not match:
        raise Failure(f"{text!r} is not an Elasticsearch version such as 9.2.0")
    return tuple(map(int, match.groups()))


def jdks():
    """Every JDK (with a compiler) on this machine, lowest major version first."""
    homes = [pathlib.Path(home) for home in [os.environ.get("JAVA_HOME")] if home]
    homes += sorted(pathlib.Path("/usr/lib/jvm").glob("*"))
    if javac := shutil.which("javac"):
        homes.append(pathlib.Path(javac).resolve().parent.parent)
    found = {}
    for home in homes:
        release = home / "release"
        if (home / "bin/javac").exists() and release.exists():
            match = re.search(r'JAVA_VERSION="(\d+)', release.read_text())
            if match:
                found.setdefault(home.resolve(), Jdk(home.resolve(), int(match.group(1))))
    return sorted(found.values(), key=lambda jdk: jdk.major)


def for_version(version):
    """The JDK to use: 17 is nearest to what 8.10 to 8.15 were built for; later versions gain from a newer one (native code, Panama vectors)."""
    numbers = parse_version(version)
    if numbers < (8, 10, 0):
        raise Failure(f"Elasticsearch {version} is older than 8.10, the oldest that Outrigger supports")
    least = 21 if numbers >= (9, 0, 0) else 17
    usable = [jdk for jdk in jdks() if jdk.major >= least]
    if not usable:
        have = ", ".join(str(jdk.major) for jdk in jdks()) or "none"
        raise Failure(
            f"Elasticsearch {version} needs a JDK {least} or later (here: {have}).\n"
            f"Install one, e.g. `apt-get install openjdk-{least}-jdk-headless`, or name it in JAVA_HOME."
            + ("\nDebian 12 has only 17: use 8.15.3 there." if least == 21 else "")
        )
    if numbers < (8, 16, 0):
        return usable[0]
    if numbers < (9, 0, 0):
        # Lucene 9.12 uses Panama vectors on 21 and 22 only.
        return next((jdk for jdk in usable if jdk.major in (21, 22)), usable[-1])
    return usable[-1]
