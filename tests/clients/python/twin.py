"""Asks two indexes the same thing by two ways and compares the answers: equal but for names, times and equal scores in another order."""

import json
import math

import elasticsearch

TOLERANCE = 1e-6
# Values that differ between two runs against one server.
VOLATILE = {"took", "index_uuid", "uuid", "_node", "node", "_scroll_id", "pit_id", "creation_date", "_shard", "ingest_took", "debug"}


class Pair:
    """Two indexes with the same contents: `ivf`, asked through Outrigger, and `twin`, asked directly."""

    def __init__(self, outrigger, direct, ivf, twin):
        assert len(ivf) == len(twin), "positions in error messages must not depend on the name"
        self.outrigger, self.direct, self.ivf, self.twin = outrigger, direct, ivf, twin

    def drop(self):
        for client, index in ((self.outrigger, self.ivf), (self.direct, self.twin)):
            client.options(ignore_status=404).indices.delete(index=index)

    def both(self, call):
        """`call(client, index)` on both sides; returns (status, body) twice, bodies made comparable."""
        return tuple(
            (status, plain(body, index)) for client, index in ((self.outrigger, self.ivf), (self.direct, self.twin)) for status, body in [outcome(call, client, index)]
        )

    def same(self, call):
        """Asserts that both sides answer `call(client, index)` alike; returns Outrigger's body."""
        ours, theirs = self.both(call)
        assert ours[0] == theirs[0], f"status {ours[0]}, not {theirs[0]}\nOutrigger: {show(ours[1])}\nElasticsearch: {show(theirs[1])}"
        compare(ours[1], theirs[1])
        return ours[1]

    def search(self, **request):
        """A search on both sides, compared."""
        return self.same(lambda client, index: client.search(index=index, **request))

    def refresh(self):
        self.same(lambda client, index: client.indices.refresh(index=index))

    def way(self, **request):
        """What Outrigger says it did with a search."""
        answer = self.outrigger.options(headers={"x-outrigger-explain": "true"}).search(index=self.ivf, **request)
        return answer.meta.headers.get("x-outrigger", "no header x-outrigger")


def outcome(call, client, index):
    try:
        answer = call(client, index)
    except elasticsearch.ApiError as error:
        return error.meta.status, error.body
    return answer.meta.status, answer.body


def plain(value, index):
    """A copy without what must differ: the index's name, ids of nodes and contexts, times."""
    if isinstance(value, dict):
        return {key.replace(index, "INDEX"): "VOLATILE" if key in VOLATILE else plain(child, index) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child, index) for child in value]
    return value.replace(index, "INDEX") if isinstance(value, str) else value


def compare(ours, theirs, path="$"):
    """Equal key paths in equal order, equal values; scores within the tolerance; hits of equal score in any order."""
    assert type(ours) is type(theirs), f"{path}: {show(ours)} is not like {show(theirs)}"
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), f"{path}: keys {list(ours)}, not {list(theirs)}"
        for key in ours:
            if key == "_explanation":
                assert close(ours[key]["value"], theirs[key]["value"]), f"{path}.{key}: {show(ours[key])} is not {show(theirs[key])}"
            else:
                compare(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), f"{path}: {len(ours)} entries, not {len(theirs)}\nOutrigger: {show(ours)}\nElasticsearch: {show(theirs)}"
        if scored(ours) and scored(theirs):
            compare_hits(ours, theirs, path)
        else:
            for number, (left, right) in enumerate(zip(ours, theirs)):
                compare(left, right, f"{path}[{number}]")
    elif isinstance(ours, float):
        assert close(ours, theirs), f"{path}: {ours} is not {theirs}"
    else:
        assert ours == theirs, f"{path}: {ours!r} is not {theirs!r}"


def scored(hits):
    return bool(hits) and all(isinstance(hit, dict) and isinstance(hit.get("_score"), float) for hit in hits)


def compare_hits(ours, theirs, path):
    for number, (left, right) in enumerate(zip(ours, theirs)):
        assert close(left["_score"], right["_score"]), f"{path}[{number}]: score {left['_score']}, not {right['_score']}\n{ranking(ours)}\n{ranking(theirs)}"
    last = theirs[-1]["_score"]
    if any("_id" not in hit for hit in (*ours, *theirs)):
        # A filter or `stored_fields: _none_` left the ids out: position is all there is.
        for number, (left, right) in enumerate(zip(ours, theirs)):
            compare({**left, "_score": None}, {**right, "_score": None}, f"{path}[{number}]")
        return
    by_id = {key(hit): hit for hit in theirs}
    for hit in ours:
        if key(hit) in by_id:
            compare({**hit, "_score": None, "sort": None}, {**by_id[key(hit)], "_score": None, "sort": None}, f"{path}[{hit.get('_id')}]")
        else:
            # The cut may fall between equals: then either is right.
            assert close(hit["_score"], last), f"{path}: {hit.get('_id')} is not among Elasticsearch's hits\n{ranking(ours)}\n{ranking(theirs)}"


def key(hit):
    return hit.get("_index"), hit.get("_id"), json.dumps(hit.get("_nested"))


def ranking(hits):
    return " ".join(f"{hit.get('_id')}:{hit['_score']:.7g}" for hit in hits)


def close(left, right):
    return left == right or (isinstance(right, (int, float)) and math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=1e-9))


def show(value):
    return json.dumps(value)[:1500]
