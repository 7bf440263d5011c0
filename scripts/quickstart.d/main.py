"""The quick start: start both servers, load the example through Outrigger, search through both ports, compare. See `scripts/quickstart --help`."""

import argparse
import json
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import compare
from stack import ROOT, Stack, Stop, say
from web import Web
from wordnet import Glosses

INDEX = "outrigger-wordnet"
COMPONENT = "ivf-embedding-384"
TEMPLATES = ROOT / "mappings/templates"
BATCH = 500
READY_WITHIN = 180


def main():
    parser = argparse.ArgumentParser(prog="scripts/quickstart")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--binary")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stack = Stack(arguments.binary, ports=(9201, 9211))
    try:
        stack.start()
        outrigger, elasticsearch = Web(stack.url), Web(stack.elasticsearch)
        outrigger.headers = dict(elasticsearch.headers)
        try:
            glosses = Glosses()
            create(outrigger)
            load(outrigger, glosses)
            wait_until_searchable(outrigger, len(glosses.lines))
            compare.show(INDEX, glosses, outrigger, elasticsearch)
            if not arguments.once:
                stay(stack, glosses)
        finally:
            if not stack.own_elasticsearch:
                remove(elasticsearch)
    except KeyboardInterrupt:
        print()
    except (Stop, RuntimeError, OSError) as reason:
        say(f"stopped: {reason}")
        return 1
    finally:
        say("stopping what was started")
        stack.close()
    return 0


def create(outrigger):
    """A component template with the vector field, an index template that uses it, and an index made from them."""
    remove(outrigger)
    outrigger.expect("PUT", f"/_component_template/{COMPONENT}", json.loads((TEMPLATES / f"{COMPONENT}.component.json").read_text()))
    outrigger.expect("PUT", f"/_index_template/{INDEX}", json.loads((TEMPLATES / "wordnet.index.json").read_text()))
    outrigger.expect("PUT", f"/{INDEX}")
    mapping = outrigger.expect("GET", f"/{INDEX}/_mapping")[INDEX]["mappings"]["properties"]["embedding"]
    say(f"index {INDEX}, made from templates; its field: {json.dumps(mapping)}")


def remove(server):
    """Takes away what an earlier quick start left, or this one leaves, in an Elasticsearch that is not ours."""
    for path in (f"/{INDEX}", f"/_index_template/{INDEX}", f"/_component_template/{COMPONENT}"):
        server.send("DELETE", path)


def load(outrigger, glosses):
    total = len(glosses.lines)
    started = time.monotonic()
    sending = 0.0
    for first in range(0, total, BATCH):
        rows = range(first, min(first + BATCH, total))
        body = "".join(bulk_lines(glosses, row) for row in rows).encode()
        sent = time.monotonic()
        answer = outrigger.expect("POST", f"/{INDEX}/_bulk", body, kind="application/x-ndjson")
        sending += time.monotonic() - sent
        if answer["errors"]:
            raise Stop(f"bulk refused: {json.dumps(answer['items'])[:500]}")
        if sys.stdout.isatty():
            print(f"\r          {rows[-1] + 1:,} of {total:,} documents", end="", flush=True)
    if sys.stdout.isatty():
        print("\r" + " " * 60 + "\r", end="")
    say(f"loaded {total:,} documents in {time.monotonic() - started:.1f} s ({total / sending:,.0f}/s while the servers worked)")


def bulk_lines(glosses, row):
    words, definition = json.dumps(glosses.words(row)), json.dumps(glosses.definition(row))
    return f'{{"index":{{"_id":"{row}"}}}}\n{{"words":{words},"definition":{definition},"embedding":{glosses.vector_json(row)}}}\n'


def wait_until_searchable(outrigger, total):
    """A refresh through Outrigger returns once it has published what the refresh shows; then the IVF index may still be building."""
    started = time.monotonic()
    outrigger.expect("POST", f"/{INDEX}/_refresh")
    while True:
        status, _, stats = outrigger.send("GET", f"/_ivf/{INDEX}/_stats")
        if status == 200 and ready(stats, total):
            say(f"searchable after {time.monotonic() - started:.1f} s")
            return
        if time.monotonic() - started > READY_WITHIN:
            raise Stop(f"the index was not ready within {READY_WITHIN} s: {json.dumps(stats)[:800]}")
        time.sleep(0.1)


def ready(stats, total):
    """All shards of the field are ready and hold every document."""
    shards = list(dicts_with(stats, "ready", "docs"))
    return bool(shards) and all(shard["ready"] for shard in shards) and sum(shard["docs"] for shard in shards) >= total


def dicts_with(value, *keys):
    """Every innermost object in `value` that has all `keys`."""
    if isinstance(value, dict):
        inner = [found for child in value.values() for found in dicts_with(child, *keys)]
        return inner or ([value] if all(key in value for key in keys) else [])
    if isinstance(value, list):
        return [found for child in value for found in dicts_with(child, *keys)]
    return []


def stay(stack, glosses):
    query = pathlib.Path(stack.folder / "query.json")
    _, row = compare.shown_rows(glosses)[0]
    body = f'{{"knn":{{"field":"embedding","query_vector":{glosses.vector_json(row)},"k":5}},"_source":["words","definition"]}}'
    query.write_text(body)
    print(f"""
Both stay up until Ctrl-C. Try:

  curl -s '{stack.url}/{INDEX}/_search?pretty' -H 'content-type: application/json' -d @{query}
  curl -si '{stack.url}/{INDEX}/_search?size=1' -H 'x-outrigger-explain: true' -H 'content-type: application/json' -d @{query} | head -8
  curl -s '{stack.url}/_ivf/{INDEX}/_stats?pretty'
  curl -s '{stack.admin}/metrics' | head

  # the official Python client, as it is (pip install elasticsearch)
  import json, elasticsearch
  knn = json.load(open("{query}"))["knn"]
  elasticsearch.Elasticsearch("{stack.url}").search(index="{INDEX}", knn=knn, source=["words"])

Elasticsearch itself: {stack.elasticsearch}   Outrigger's log: {stack.outrigger.log}
""")
    while stack.outrigger.is_running():
        time.sleep(0.2)
    raise Stop(f"Outrigger ended; its log ends:\n{stack.outrigger.log_end()}")


if __name__ == "__main__":
    sys.exit(main())
