"""What becomes of the client over the limits of its tenant: its own retries and its helpers go on until all is there, and a quota is an error that can be read.

Directly there are no limits, and both indexes hold the same afterwards. The tenants stand in `scripts/test-clients`."""

import asyncio
import concurrent.futures
import os
import re
import time

import elasticsearch
import pytest
from elasticsearch import AsyncElasticsearch, helpers

from corpus import WIDE, query, vector

KNN = {"field": "cos", "query_vector": query("cos"), "k": 20, "num_candidates": WIDE}
COUNT = 60
LIMITED = os.environ.get("OUTRIGGER_LIMITED_URL")
pytestmark = pytest.mark.skipif(LIMITED is None, reason="scripts/test-clients starts a server with tenants that have limits")
PATIENT = {"max_retries": 60, "initial_backoff": 0.2, "max_backoff": 0.2, "chunk_size": 4}


def actions(index):
    return [{"_index": index, "_id": f"limited-{row}", "cos": vector("cos", row + 70), "n": row, "tag": "limited"} for row in range(COUNT)]


class Counting(elasticsearch.Elasticsearch):
    """Counts the answers that the client's transport gave, retries of its own apart."""

    refused = 0

    def perform_request(self, *arguments, **named):
        try:
            return super().perform_request(*arguments, **named)
        except elasticsearch.ApiError as error:
            Counting.refused += error.status_code == 429
            raise


@pytest.fixture
def both(scratch, servers):
    """The indexes, each with the address where it is filled: one has limits."""
    Counting.refused = 0
    yield ((LIMITED, scratch.ivf), (servers[1], scratch.twin))
    assert Counting.refused > 0, "nothing was refused, so nothing was tried again"


def same_afterwards(pair):
    pair.refresh()
    pair.same(lambda client, index: client.count(index=index))
    pair.search(knn=KNN, size=20, source=["n"])


def hasty(url, **options):
    # Without retries of the transport, which are immediate: the helpers wait.
    return Counting(url, headers={"x-tenant-id": "hasty"}, max_retries=0, request_timeout=60, **options)


@pytest.mark.parametrize("helper", ["bulk", "streaming_bulk"])
def test_bulk_helpers(both, scratch, helper):
    for url, index in both:
        with hasty(url) as client:
            done = getattr(helpers, helper)(client, actions(index), **PATIENT)
            assert done == (COUNT, []) if helper == "bulk" else [ok for ok, _ in done] == [True] * COUNT
    same_afterwards(scratch)


def test_bulk_helper_with_the_transports_own_retries(both, scratch):
    """As clients are by default: three immediate retries by the transport, below those of the helper."""
    for url, index in both:
        with Counting(url, headers={"x-tenant-id": "hasty"}) as client:
            assert helpers.bulk(client, actions(index), **PATIENT) == (COUNT, [])
    same_afterwards(scratch)


def test_asynchronous_bulk_helper(scratch, servers):
    async def fill(url, index):
        async with AsyncElasticsearch(url, headers={"x-tenant-id": "hasty"}, max_retries=0) as client:
            return await asyncio.gather(helpers.async_bulk(client, actions(index)[:30], **PATIENT), helpers.async_bulk(client, actions(index)[30:], **PATIENT))

    for url, index in ((LIMITED, scratch.ivf), (servers[1], scratch.twin)):
        assert asyncio.run(fill(url, index)) == [(COUNT // 2, []), (COUNT // 2, [])]
    same_afterwards(scratch)


def test_scan_with_retries_of_the_transport(scratch, servers):
    """A scroll has no retries of its own; the client's may be told to wait until it is admitted."""
    for url, index in ((LIMITED, scratch.ivf), (servers[1], scratch.twin)):
        with elasticsearch.Elasticsearch(url, headers={"x-tenant-id": "hasty"}, retry_on_status=(429,), max_retries=5000) as client:
            hits = list(helpers.scan(client, index=index, size=10))
            assert sorted(int(hit["_id"]) for hit in hits) == list(range(60))


def refused(call):
    """What one of several calls ends with that are made at once: one after the other they may be slow enough."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        errors = [error for called in [pool.submit(call) for _ in range(16)] if (error := called.exception())]
    assert errors, "nothing was refused"
    return errors[0]


def test_errors_can_be_read(scratch):
    with hasty(LIMITED) as client:
        error = refused(lambda: client.search(index=scratch.ivf, size=1))
        assert error.status_code == 429 and error.body["error"]["type"] == "es_rejected_execution_exception"
        assert re.search(r"ApiError\(429, 'es_rejected_execution_exception', '.*tenant \[hasty\]: requests_per_second=10'\)", str(error))
        time.sleep(int(error.meta.headers["retry-after"]))
        client.search(index=scratch.ivf, size=1)
    with elasticsearch.Elasticsearch(LIMITED, headers={"x-tenant-id": "eager"}, max_retries=0) as client:
        error = refused(lambda: client.search(index=scratch.ivf, knn=KNN))
        assert error.status_code == 429 and "knn request of tenant [eager]" in str(error)


def test_searches_of_a_multi_search_are_refused_one_by_one(scratch):
    with elasticsearch.Elasticsearch(LIMITED, headers={"x-tenant-id": "eager"}) as client:
        time.sleep(1)
        answer = client.msearch(index=scratch.ivf, searches=[{}, {"knn": KNN}, {}, {"size": 1}, {}, {"knn": KNN}])
        statuses = [one["status"] for one in answer["responses"]]
        assert statuses == [200, 200, 429]
        assert answer["responses"][2]["error"]["type"] == "es_rejected_execution_exception"


def test_quotas_can_be_read(scratch):
    full = f"full-{scratch.ivf}"
    with elasticsearch.Elasticsearch(LIMITED) as client:
        for call in (lambda: client.indices.create(index=full), lambda: client.index(index=full, document={"a": 1})):
            with pytest.raises(elasticsearch.AuthorizationException) as error:
                call()
            assert error.value.error == "quota_exceeded_exception" and error.value.body["error"]["reason"] == "quota exceeded: indices usage 0 + 1 > limit 0"
        mixed = [{"_index": (scratch.ivf, full)[row % 2], "_id": f"q{row}", "n": row} for row in range(6)]
        with pytest.raises(helpers.BulkIndexError) as error:
            helpers.bulk(client, mixed, max_retries=3)
        items = [item["index"] for item in error.value.errors]
        assert [(item["_id"], item["status"], item["error"]["type"]) for item in items] == [(f"q{row}", 403, "quota_exceeded_exception") for row in (1, 3, 5)]
        done, failed = helpers.bulk(client, mixed, raise_on_error=False, stats_only=True)
        assert (done, failed) == (3, 3)
        assert not client.indices.exists(index=full)
