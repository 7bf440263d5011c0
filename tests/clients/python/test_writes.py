"""Writes through Outrigger: the same answers, and every later search sees exactly what Elasticsearch would show."""

import pytest
from elasticsearch import helpers

from corpus import DIMS, WIDE, query, vector

KNN = {"field": "cos", "query_vector": query("cos"), "k": 20, "num_candidates": WIDE}


def check(pair):
    for number in range(3):
        pair.search(knn=KNN | {"query_vector": query("cos", number)}, size=20, source=["n"])
        pair.search(knn=KNN | {"field": "byte", "query_vector": query("byte", number)}, size=20, source=False)
        pair.search(knn=KNN | {"field": "kids.v", "query_vector": query("cos", number)}, size=20, source=False)


def near(number):
    """A document nearer to the query than all others."""
    return {"cos": [value * (1 + number / 64) if at else value + number / 32 for at, value in enumerate(query("cos"))], "n": 1000 + number}


def test_single_documents(scratch):
    scratch.same(lambda client, index: client.index(index=index, id="new", document=near(1), refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.index(index=index, id="new", document=near(9), refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.create(index=index, id="new", document=near(2)))
    scratch.same(lambda client, index: client.create(index=index, id="other", document=near(2), refresh="wait_for"))
    check(scratch)
    scratch.same(lambda client, index: client.get(index=index, id="new"))
    scratch.same(lambda client, index: client.mget(index=index, ids=["new", "other", "none"]))
    scratch.same(lambda client, index: client.delete(index=index, id="new", refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.delete(index=index, id="new", refresh=True))
    check(scratch)


def test_updates(scratch):
    scratch.same(lambda client, index: client.update(index=index, id="1", doc={"n": 501}, refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.update(index=index, id="1", doc=near(3), refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.update(index=index, id="2", doc={"cos": None}, refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.update(index=index, id="absent", doc={"n": 1}))
    scratch.same(lambda client, index: client.update(index=index, id="born", doc=near(4), doc_as_upsert=True, refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.update(index=index, id="1", doc={"kids": [{"v": query("cos")}]}, refresh=True))
    check(scratch)


def test_versions_and_conflicts(scratch):
    scratch.same(lambda client, index: client.index(index=index, id="1", document=near(1), if_seq_no=9999, if_primary_term=1))
    scratch.same(lambda client, index: client.index(index=index, id="v", document=near(1), version=5, version_type="external"))
    scratch.same(lambda client, index: client.index(index=index, id="v", document=near(2), version=4, version_type="external"))
    scratch.refresh()
    check(scratch)


def test_unrefreshed_writes_stay_unseen_until_the_refresh(scratch):
    for client, index in ((scratch.outrigger, scratch.ivf), (scratch.direct, scratch.twin)):
        client.indices.put_settings(index=index, settings={"refresh_interval": -1})
    check(scratch)
    scratch.same(lambda client, index: client.index(index=index, id="late", document=near(1)))
    scratch.same(lambda client, index: client.delete(index=index, id="5"))
    check(scratch)
    scratch.refresh()
    check(scratch)


def test_bulk_of_all_kinds(scratch):
    lines = [
        {"index": {"_id": "a"}}, near(1),
        {"create": {"_id": "1"}}, near(2),
        {"create": {"_id": "b"}}, near(3),
        {"update": {"_id": "2"}}, {"doc": near(4)},
        {"update": {"_id": "3"}}, {"doc": {"n": 3}},
        {"update": {"_id": "none"}}, {"doc": {"n": 3}},
        {"update": {"_id": "c"}}, {"doc": near(5), "doc_as_upsert": True},
        {"delete": {"_id": "4"}},
        {"delete": {"_id": "none"}},
        {"index": {"_id": "a"}}, near(6),
        {"index": {"_id": "bad"}}, {"cos": [1.0]},
        {"delete": {"_id": "b"}},
    ]  # fmt: skip
    scratch.same(lambda client, index: client.bulk(index=index, operations=lines, refresh=True))
    check(scratch)
    scratch.same(lambda client, index: client.bulk(index=index, operations=lines, refresh="wait_for"))
    check(scratch)


def test_generated_ids(scratch):
    made = scratch.outrigger.bulk(index=scratch.ivf, operations=[{"index": {}}, near(1), {"create": {}}, near(2)], refresh=True)
    ids = [next(iter(item.values()))["_id"] for item in made["items"]]
    found = scratch.outrigger.search(index=scratch.ivf, knn=KNN | {"k": 2}, source=False)
    assert {hit["_id"] for hit in found["hits"]["hits"]} == set(ids)
    alone = scratch.outrigger.index(index=scratch.ivf, document={"cos": query("cos")}, refresh=True)
    assert scratch.outrigger.search(index=scratch.ivf, knn=KNN | {"k": 1})["hits"]["hits"][0]["_id"] == alone["_id"]


def test_routing(scratch):
    lines = [{"index": {"_id": "r", "routing": "x"}}, near(1), {"index": {"_id": "s", "routing": "y"}}, near(2)]
    scratch.same(lambda client, index: client.bulk(index=index, operations=lines, refresh=True))
    check(scratch)
    scratch.search(knn=KNN, routing="x")
    scratch.same(lambda client, index: client.delete(index=index, id="r", routing="x", refresh=True))
    check(scratch)


@pytest.mark.parametrize("helper", ["bulk", "streaming_bulk", "parallel_bulk"])
def test_helpers(scratch, helper):
    for client, index in ((scratch.outrigger, scratch.ivf), (scratch.direct, scratch.twin)):
        actions = [{"_index": index, "_id": f"h{row}", "cos": vector("cos", row % 200), "n": row} for row in range(300)]
        actions += [{"_op_type": "delete", "_index": index, "_id": "7"}, {"_op_type": "update", "_index": index, "_id": "8", "doc": {"cos": query("cos", 2)}}]
        done = getattr(helpers, helper)(client, actions, chunk_size=50)
        assert done[0] == len(actions) if helper == "bulk" else all(ok for ok, _ in done)
        client.indices.refresh(index=index)
    scratch.search(knn=KNN | {"k": 300, "num_candidates": 400}, size=300, source=False)


def test_document_without_vectors(scratch):
    scratch.same(lambda client, index: client.index(index=index, id="0", document={"n": 0}, refresh=True))
    scratch.same(lambda client, index: client.index(index=index, id="1", document={"n": 1, "cos": None, "byte": None}, refresh=True))
    check(scratch)


def test_scan_and_write_back(scratch):
    """Read with a scroll, written with bulks: as applications copy and change documents."""
    for client, index in ((scratch.outrigger, scratch.ivf), (scratch.direct, scratch.twin)):
        hits = list(helpers.scan(client, index=index, query={"query": {"term": {"tag": "sail"}}, "_source": ["n", "title"]}))
        assert len(hits) == 12
        helpers.bulk(client, [{"_index": index, "_id": hit["_id"], **hit["_source"], "cos": vector("cos", hit["_source"]["n"] + 1)} for hit in hits], refresh=True)
    check(scratch)


def test_duplicates_of_one_vector(scratch):
    """Equal scores come in any order, but as many as asked for."""
    lines = [line for row in range(30) for line in ({"index": {"_id": f"same{row}"}}, {"cos": [1.0] * DIMS})]
    scratch.same(lambda client, index: client.bulk(index=index, operations=lines, refresh=True))
    for k in (5, 30, 40):
        scratch.search(knn=KNN | {"query_vector": [1.0] * DIMS, "k": k}, size=k, source=False)
