"""The kinds of searches that are measured: each a way in which applications ask."""

import dataclasses
import json

from dataset import K

BATCH = 50


@dataclasses.dataclass
class Kind:
    """One kind. `body(corpus, number, knn)` is the search around the knn object of query `number`."""

    name: str
    title: str
    body: object
    bar: float
    # The filter inside the knn, by query.
    filter: object = None
    # The keyword that the filter is about and the number of its values: what recall is judged by.
    judged: tuple = None
    recall: float = 0.95
    # Each request has a filter that was never seen before.
    fresh: bool = False
    searches: int = 1


def plain(**more):
    return lambda corpus, number, knn: {"knn": knn} | more


def hybrid(corpus, number, knn):
    return {"knn": knn, "query": {"match": {"text": corpus.questions[number]}}, "size": 10, "_source": False}


def tenth(number):
    return {"term": {"tenth": f"t{number % 10}"}}


def hundredth(number):
    return {"term": {"hundredth": f"h{number % 100}"}}


def salted(keeps):
    """The same documents under a filter that nobody has asked with."""

    def build(number, salt):
        return {"bool": {"filter": [keeps(number)], "must_not": [{"term": {"title": f"nobody-{salt}"}}]}}

    return build


IDS = Kind("ids", "`_source: false`", plain(_source=False), 8.0)
KINDS = [
    IDS,
    Kind("source_warm", "`_source` of 1 KB, asked before", plain(), 5.0),
    Kind("source_cold", "`_source` of 1 KB, never asked before", plain(), 1.3),
    Kind("hybrid", "knn beside a match query, size 10", hybrid, 1.0),
    Kind("aggs", "terms aggregation over the knn hits", plain(size=0, aggs={"t": {"terms": {"field": "tenth"}}}), 1.0),
    Kind("filter_10", "filter keeping 10 %, repeated", plain(_source=False), 5.0, tenth, ("tenths", 10), 0.98),
    Kind("filter_1", "filter keeping 1 %, repeated", plain(_source=False), 5.0, hundredth, ("hundredths", 100), 0.98),
    Kind("first_10", "filter keeping 10 %, first time seen", plain(_source=False), 0.9, salted(tenth), ("tenths", 10), 0.98, fresh=True),
    Kind("first_1", "filter keeping 1 %, first time seen", plain(_source=False), 0.9, salted(hundredth), ("hundredths", 100), 0.98, fresh=True),
    Kind("msearch", f"`_msearch` of {BATCH}, `_source: false`", plain(_source=False), 8.0, searches=BATCH),
]
BUSY = [("filter_10", 4.0), ("filter_1", 4.0)]


def requests(kind, corpus, index, candidates, first_salt=0, count=None):
    """Every query once, or `count` requests round and round."""
    texts = searches(kind, corpus, candidates, first_salt, count or len(corpus.queries))
    if kind.searches == 1:
        for text in texts:
            yield "POST", f"/{index}/_search", text.encode()
        return
    batch = []
    for text in texts:
        batch.append("{}\n" + text + "\n")
        if len(batch) == kind.searches:
            yield "POST", f"/{index}/_msearch", "".join(batch).encode()
            batch = []


def searches(kind, corpus, candidates, first_salt, count):
    for position in range(count):
        number = position % len(corpus.queries)
        knn = {"field": "v", "query_vector": 0, "k": K} | ({"num_candidates": candidates} if candidates else {})
        if kind.filter:
            knn["filter"] = kind.filter(number, first_salt + position) if kind.fresh else kind.filter(number)
        text = json.dumps(kind.body(corpus, number, knn), separators=(",", ":"))
        # The vector last: as JSON numbers it would be parsed and printed for nothing.
        yield text.replace('"query_vector":0', '"query_vector":' + corpus.vector(corpus.queries[number]), 1)
