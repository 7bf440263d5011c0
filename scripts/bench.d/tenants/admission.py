"""What the door costs in process: an example program of the proxy measures itself."""

import json
import subprocess

import client
from stack import say


def run(here):
    program = client.build("es-proxy", "admission", "example")
    options = ["--quick"] if here.quick else []
    rounds = [json.loads(subprocess.run([program, *options], stdout=subprocess.PIPE, text=True, check=True).stdout) for _ in range(here.rounds)]
    best = min(rounds, key=lambda each: each["admission_p50_ns"])
    say(f"admission: {best}")
    return {"rounds": rounds, "best": best}
