"""The ways in which applications ask, over HTTP, beside the native index types of a real Elasticsearch, in one run."""

import sys

import client
import command
import corpus
import kinds
import measure
import report
from servers import Servers
from setting import Bench
from stack import say

QUICK_BASE = 12_000
NAMES = [kind.name for kind in kinds.KINDS]
EXAMPLES = """examples:
  scripts/bench search                                  all kinds of searches; about 25 minutes on 2 quiet cores
  scripts/bench search --quick                          a small pass over everything: does it all work? a few minutes
  scripts/bench search --only ids,filter_10,first_10    some kinds only
  scripts/bench search --binary target/release/outrigger --label other-pages

Each peer (int8_hnsw, bbq_hnsw, bbq_disk, Outrigger) is loaded with the same documents, merged to one segment, and asked with the least num_candidates that
reaches the recall of the kind. Peers are measured in alternating rounds; ratios are taken within rounds. The vectors: mini (108,000 x 384, cosine) from
--data; where that folder is absent, the WordNet slice that ships with the project. All processes share --cores cores, the client included."""


def main():
    arguments = command.with_servers(command.parser("search", __doc__, EXAMPLES, 5, NAMES)).parse_args()
    return command.run("search", arguments, arguments.cores, lambda record: bench(record, arguments))


def bench(record, arguments):
    loadgen = arguments.loadgen or client.build("bench-loadgen", "bench-loadgen")
    binary = arguments.binary or client.build("outrigger", "outrigger")
    documents = corpus.read(arguments.data.absolute(), QUICK_BASE if arguments.quick else None)
    with Servers(arguments.elasticsearch, arguments.heap, binary) as servers:
        record["versions"] |= {"elasticsearch": arguments.elasticsearch, "java": servers.java}
        record["parameters"] = {"heap": arguments.heap, "rounds": arguments.rounds}
        setting = Bench(servers, client.Client(loadgen), documents, arguments.quick, arguments.rounds)
        record["parts"]["search"] = measure.Measurement(setting, arguments.only).run()
    kept = command.save(record, arguments, command.words_of("search", arguments, NAMES), report.page)
    print("\n" + report.page(record))
    say(f"record: {kept}")


if __name__ == "__main__":
    sys.exit(main())
