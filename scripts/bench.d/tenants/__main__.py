"""The door: what identity, tenants and limits cost, and whether they hold, in one run beside nginx, HAProxy and a bare responder."""

import sys

import admission
import client
import command
import crowd
import dataset as datasets
import neighbours
import passing
import rates
import refusals
import report
import world
from servers import Servers
from stack import say

PARTS = {
    "admission": admission,
    "rates": rates,
    "refusals": refusals,
    "neighbours": neighbours,
    "crowd": crowd,
    "passing": None,
    "tls": None,
}
EXAMPLES = """examples:
  scripts/bench tenants                            all parts; about 20 minutes on 2 quiet cores
  scripts/bench tenants --quick                    a small pass over everything: does it all work?
  scripts/bench tenants --only rates,neighbours    some parts only

admission    nanoseconds of identity + tenant + limits on a cache hit, and the memory of 10,000 tenants and 100,000 principals (in process)
rates        admitted requests per second against the configured ones, 1 to 10,000
refusals     refusals per second beside a bare responder on the same HTTP library that answers the same bytes
neighbours   the p99 of a tenant, alone and while another offers ten times its limit: knn searches and bulks
crowd        memory, and the p99 of others, with 10,000 idle and 1,000 slow connections
passing      passing through with limits on, beside nginx and HAProxy
tls          the same where all three speak TLS to the client"""


def main():
    arguments = command.with_servers(command.parser("tenants", __doc__, EXAMPLES, 5, list(PARTS))).parse_args()
    return command.run("tenants", arguments, arguments.cores, lambda record: bench(record, arguments))


def bench(record, arguments):
    loadgen = arguments.loadgen or client.build("bench-loadgen", "bench-loadgen")
    binary = arguments.binary or client.build("outrigger", "outrigger")
    with Servers(arguments.elasticsearch, arguments.heap, binary) as servers:
        record["versions"] |= {"elasticsearch": arguments.elasticsearch, "java": servers.java}
        record["parameters"] = {"heap": arguments.heap, "rounds": arguments.rounds}
        load = client.Client(loadgen)
        folder = arguments.data.absolute()
        vectors = datasets.read(datasets.names(folder)[0], folder, world.BASE)
        here = world.World(servers, load, vectors, arguments.quick, arguments.rounds)
        for name in arguments.only:
            say(f"part: {name}")
            if name in ("passing", "tls"):
                options = ["--config", here.config({"bench": world.generous()})]
                record["parts"][name] = passing.run(servers, load, arguments.quick, options, tls=name == "tls")
            else:
                record["parts"][name] = PARTS[name].run(here)
    kept = command.save(record, arguments, command.words_of("tenants", arguments, PARTS), report.page)
    print("\n" + report.page(record))
    say(f"record: {kept}")


if __name__ == "__main__":
    sys.exit(main())
