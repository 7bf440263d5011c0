"""The write path over HTTP: bulk until searchable, publication, catching up, audits, restarts, beside a real Elasticsearch, in one run."""

import sys

import client
import command
import dataset
import parts
import report
from servers import Servers
from setting import Bench
from stack import say

QUICK_BASE = 12_000
EXAMPLES = """examples:
  scripts/bench ingest                              all parts; about 40 minutes on 2 quiet cores, 20 GB of disk
  scripts/bench ingest --quick                      a small pass over everything: does it all work? a few minutes
  scripts/bench ingest --only load,publication      documents/s beside int8_hnsw, bbq_hnsw, bbq_disk and flat; delay of publication
  scripts/bench ingest --only million               a million vectors: what an audit costs, how long a restart takes
  scripts/bench ingest --binary target/release/outrigger --label other-pages

The vectors: mini (108,000 x 384, cosine) from --data; where that folder is absent, the WordNet slice that ships with the project. All processes share
--cores cores, the client included."""


def main():
    arguments = command.with_servers(command.parser("ingest", __doc__, EXAMPLES, 5, parts.PARTS)).parse_args()
    return command.run("ingest", arguments, arguments.cores, lambda record: bench(record, arguments))


def bench(record, arguments):
    folder = arguments.data.absolute()
    loadgen = arguments.loadgen or client.build("bench-loadgen", "bench-loadgen")
    binary = arguments.binary or client.build("outrigger", "outrigger")
    vectors = dataset.read(dataset.names(folder)[0], folder, QUICK_BASE if arguments.quick else None)
    # Thousands of indices on one node are more than a node wants to hold.
    with Servers(arguments.elasticsearch, arguments.heap, binary, settings=["cluster.max_shards_per_node=10000"]) as servers:
        record["versions"] |= {"elasticsearch": arguments.elasticsearch, "java": servers.java}
        record["parameters"] = {"heap": arguments.heap, "rounds": arguments.rounds}
        setting = Bench(servers, client.Client(loadgen), vectors, arguments.quick, arguments.rounds)
        for name in arguments.only:
            say(f"part: {name}")
            record["parts"][name] = parts.PARTS[name](setting)
            setting.client.processes = {}
            # After each part: what is measured is kept if a later one fails.
            kept = command.save(record, arguments, command.words_of("ingest", arguments, parts.PARTS), report.page)
    print("\n" + report.page(record))
    say(f"record: {kept}")


if __name__ == "__main__":
    sys.exit(main())
