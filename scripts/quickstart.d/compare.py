"""Searches through Outrigger and directly on Elasticsearch: words side by side, recall against the exact answer, latencies."""

import statistics
import textwrap

from stack import Stop, say

WORDS = ("tiger", "wine", "tornado", "orchestra", "chess", "cathedral", "poet", "knife")
SHOWN = 3
K = 10
RECALL_QUERIES = 200
TIMED = 300
WARM = 30


def show(index, glosses, outrigger, elasticsearch):
    path = f"/{index}/_search"
    print_words(path, glosses, outrigger, elasticsearch)
    recall(path, glosses, outrigger, elasticsearch)
    latencies(path, glosses, outrigger, elasticsearch)


def shown_rows(glosses):
    return [(word, row) for word in WORDS if (row := glosses.row_of(word)) is not None]


def body(glosses, row, k=K, source="false"):
    knn = f'{{"field":"embedding","query_vector":{glosses.vector_json(row)},"k":{k},"num_candidates":100}}'
    return f'{{"knn":{knn},"size":{K},"_source":{source}}}'.encode()


def truth(path, elasticsearch, glosses, row):
    """Elasticsearch's answer without a graph. It may rank 8-bit codes first and rescore 3k of them, so a larger k makes the first ten exact."""
    return elasticsearch.expect("POST", path, body(glosses, row, k=100))["hits"]["hits"]


def print_words(path, glosses, outrigger, elasticsearch):
    """For some well-known words: neighbours by both ports; the direct answer is checked against brute force over the shipped vectors."""
    checked = 0
    print()
    for word, row in shown_rows(glosses):
        request = body(glosses, row, source='["words","definition"]')
        status, headers, ours = outrigger.send("POST", path, request, headers={"x-outrigger-explain": "true"})
        if status != 200:
            raise Stop(f"a search through Outrigger answered {status}: {ours}")
        way = headers.get("x-outrigger", "no x-outrigger header")
        if way.startswith(("pass", "no ")):
            raise Stop(f"Outrigger left a search to Elasticsearch: {way}")
        direct = elasticsearch.expect("POST", path, request)
        cosines = glosses.cosines(row)
        least = sorted(cosines)[-K] - 1e-6
        checked += sum(cosines[int(hit["_id"])] >= least for hit in truth(path, elasticsearch, glosses, row))
        print(f"  {word}: {shorten(glosses.definition(row), 90)}    [{way}]")
        print(f"    {'through Outrigger':<58}  {'directly on Elasticsearch':<58}")
        for left, right in zip(neighbours(ours, row), neighbours(direct, row)):
            print(f"    {left:<58}  {right:<58}")
        print()
    total = K * len(shown_rows(glosses))
    say(f"Elasticsearch's own answer holds {checked} of {total} exact neighbours (brute force): it serves as the truth below")


def neighbours(answer, row):
    """The nearest hits as text, without the word itself."""
    hits = [hit for hit in answer["hits"]["hits"] if hit["_id"] != str(row)][:SHOWN]
    return [shorten(f"{hit['_score']:.3f} {hit['_source']['words'][0]}: {hit['_source']['definition']}", 58) for hit in hits]


def shorten(text, width):
    return textwrap.shorten(text, width, placeholder=" …")


def recall(path, glosses, outrigger, elasticsearch):
    """Of the exact 10 nearest, how many Outrigger returns. A hit at the tenth score counts whichever of the equals it is."""
    found = 0
    rows = range(0, len(glosses.lines), len(glosses.lines) // RECALL_QUERIES)
    for row in rows:
        exact = truth(path, elasticsearch, glosses, row)
        ours = outrigger.expect("POST", path, body(glosses, row))["hits"]["hits"]
        least = exact[-1]["_score"] * (1 - 1e-6)
        found += min(len(exact), sum(hit["_score"] >= least for hit in ours))
    say(f"recall@{K} over {len(rows)} queries: {found / (K * len(rows)):.4f}")


def latencies(path, glosses, outrigger, elasticsearch):
    """One client, one request after the other, both ports in turn so that both see the same machine."""
    rows = [(number * 79) % len(glosses.lines) for number in range(TIMED + WARM)]
    for label, source in (("ids and scores", "false"), ("with words and definitions", '["words","definition"]')):
        requests = [body(glosses, row, source=source) for row in rows]
        times = [(outrigger.timed(path, request), elasticsearch.timed(path, request)) for request in requests][WARM:]
        ours, direct = zip(*times)
        say(f"{label}: Outrigger {spread(ours)}, Elasticsearch directly {spread(direct)} ({TIMED} requests each)")
    say("(directly, Elasticsearch scans: it keeps no graph for an ivf field)")


def spread(times):
    cut = statistics.quantiles(times, n=100)
    return f"p50 {cut[49]:.2f} ms, p99 {cut[98]:.2f} ms"
