"""The asynchronous client, with many requests at once on many connections."""

import asyncio

from elasticsearch import AsyncElasticsearch, helpers

from corpus import WIDE, query, vector
from twin import compare, plain


def knn(number):
    return {"field": "cos", "query_vector": query("cos", number % 40), "k": 10, "num_candidates": WIDE}


def test_concurrent_searches(pair, servers):
    async def all_answers(url, index):
        async with AsyncElasticsearch(url, request_timeout=60) as client:
            return await asyncio.gather(*(client.search(index=index, knn=knn(number), source=False) for number in range(120)))

    ours = asyncio.run(all_answers(servers[0], pair.ivf))
    theirs = asyncio.run(all_answers(servers[1], pair.twin))
    for left, right in zip(ours, theirs):
        compare(plain(left.body, pair.ivf), plain(right.body, pair.twin))


def test_writes_and_searches_at_once(scratch, servers):
    """While bulks run, every search succeeds; after the refresh both sides agree."""

    async def work(url, index):
        async with AsyncElasticsearch(url, request_timeout=60) as client:
            actions = [{"_index": index, "_id": f"w{row}", "cos": vector("cos", row % 240)} for row in range(400)]
            writing = asyncio.create_task(helpers.async_bulk(client, actions, chunk_size=25))
            while not writing.done():
                answers = await asyncio.gather(*(client.search(index=index, knn=knn(number)) for number in range(8)))
                assert all(answer["_shards"]["failed"] == 0 and not answer["timed_out"] for answer in answers)
            assert (await writing)[0] == len(actions)
            await client.indices.refresh(index=index)

    for url, index in zip(servers, (scratch.ivf, scratch.twin)):
        asyncio.run(work(url, index))
    scratch.search(knn=knn(0) | {"k": 100, "num_candidates": 500}, size=100, source=False)


def test_async_scan(pair, servers):
    async def ids(url, index):
        async with AsyncElasticsearch(url) as client:
            return [hit["_id"] async for hit in helpers.async_scan(client, index=index, query={"query": {"term": {"tag": "sail"}}})]

    assert sorted(asyncio.run(ids(servers[0], pair.ivf))) == sorted(asyncio.run(ids(servers[1], pair.twin)))
