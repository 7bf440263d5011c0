"""Searches that go on over several requests: scroll, point in time, search_after."""

from corpus import WIDE, query

KNN = {"field": "cos", "query_vector": query("cos"), "k": 25, "num_candidates": WIDE}
INNER = {"knn": {"field": "cos", "query_vector": query("cos"), "num_candidates": 50}}


def scrolled(client, index, **search):
    """All pages of a scroll as lists of ids, and the totals."""
    page = client.search(index=index, scroll="1m", source=False, **search)
    pages, totals = [], []
    while page["hits"]["hits"]:
        pages.append([hit["_id"] for hit in page["hits"]["hits"]])
        totals.append(page["hits"]["total"])
        page = client.scroll(scroll_id=page["_scroll_id"], scroll="1m")
    client.clear_scroll(scroll_id=page["_scroll_id"])
    return pages, totals


def test_scroll(pair):
    for search in ({"knn": KNN, "size": 10}, {"query": {"match": {"title": "anchor"}}, "size": 20}, {"knn": KNN, "size": 10, "sort": [{"n": "asc"}]}):
        assert scrolled(pair.outrigger, pair.ivf, **search) == scrolled(pair.direct, pair.twin, **search)


def test_scroll_answers_have_the_same_shape(pair):
    def first_page(client, index):
        page = client.search(index=index, scroll="1m", knn=KNN, size=10)
        client.clear_scroll(scroll_id=page["_scroll_id"])
        return page

    pair.same(first_page)


def test_point_in_time(pair):
    def paged(client, index):
        pit = client.open_point_in_time(index=index, keep_alive="1m")["id"]
        ids, after = [], None
        while True:
            page = client.search(pit={"id": pit, "keep_alive": "1m"}, knn=KNN, size=10, sort=["_score", {"n": "asc"}], search_after=after, source=False)
            pit = page["pit_id"]
            if not page["hits"]["hits"]:
                break
            ids += [hit["_id"] for hit in page["hits"]["hits"]]
            after = page["hits"]["hits"][-1]["sort"]
        client.close_point_in_time(id=pit)
        return ids

    ids = paged(pair.outrigger, pair.ivf)
    assert len(ids) == 25 and ids == paged(pair.direct, pair.twin)


def test_point_in_time_does_not_see_later_writes(scratch):
    def seen(client, index):
        pit = client.open_point_in_time(index=index, keep_alive="1m")["id"]
        client.index(index=index, id="later", document={"cos": query("cos")}, refresh=True)
        client.delete(index=index, id="1", refresh=True)
        page = client.search(pit={"id": pit}, knn=KNN, size=25, source=False)
        client.close_point_in_time(id=page["pit_id"])
        return page

    assert "later" not in [hit["_id"] for hit in scratch.same(seen)["hits"]["hits"]]


def test_search_after(pair):
    first = pair.search(knn=KNN, size=10, sort=[{"n": "asc"}], source=False)
    pair.search(knn=KNN, size=10, sort=[{"n": "asc"}], search_after=first["hits"]["hits"][-1]["sort"], source=False)
    pair.search(query=INNER, size=10, sort=[{"n": "asc"}], search_after=[100], source=False)


def test_expired_contexts(pair):
    pair.same(lambda client, index: client.scroll(scroll_id="FGluY2x1ZGVfY29udGV4dF91dWlkDXF1ZXJ5QW5kRmV0Y2gBFnRlc3Q="))
    pair.same(lambda client, index: client.search(pit={"id": "46ToAwMDaWR5BXV1aWQy"}, knn=KNN))
