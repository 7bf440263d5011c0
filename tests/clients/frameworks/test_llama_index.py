"""llama-index-vector-stores-elasticsearch: nodes by vector, by vector and text, under metadata filters, deletion."""

import asyncio

from conftest import embed, same, texts
from elasticsearch.helpers.vectorstore import AsyncDenseVectorStrategy
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import FilterCondition, MetadataFilter, MetadataFilters, VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.elasticsearch import ElasticsearchStore


def play(sides, script, strategy=None):
    """Runs `script(store)` on both sides; the store belongs to the event loop that uses it."""

    async def side(url, index):
        store = ElasticsearchStore(index_name=index, es_url=url, retrieval_strategy=strategy or AsyncDenseVectorStrategy())
        try:
            nodes = [TextNode(id_=str(n), text=text, embedding=embed(text), metadata={"topic": text.split()[0], "kind": ("even", "odd")[n % 2]}) for n, text in enumerate(texts())]
            await store.async_add(nodes)
            if index == sides.ours:
                sides.make_twin()
                sides.settle()
            return await script(store)
        finally:
            await store._store.close()

    return [asyncio.run(side(url, index)) for url, index in ((sides.outrigger, sides.ours), (sides.direct, sides.twin))]


async def found(store, text, k, mode=VectorStoreQueryMode.DEFAULT, filters=None):
    # A wide search: the twin must be exact.
    wide = lambda body, _: {**body, "knn": {**body["knn"], "num_candidates": 400}}
    result = await store.aquery(VectorStoreQuery(query_embedding=embed(text), query_str=text, similarity_top_k=k, mode=mode, filters=filters), custom_query=wide)
    return list(zip(zip(result.ids, (node.text for node in result.nodes)), result.similarities))


def test_vector_search(sides):
    before = sides.served()

    async def script(store):
        return [await found(store, text, k) for text in ("harbour", "library note 3") for k in (1, 5, 25)]

    for ours, theirs in zip(*play(sides, script)):
        same(ours, theirs)
    assert sides.served() - before >= 6, "Outrigger served none itself"


def test_filters(sides):
    one = MetadataFilters(filters=[MetadataFilter(key="topic", value="kitchen")])
    # It knows equality alone.
    two = MetadataFilters(filters=[MetadataFilter(key="topic", value="airport"), MetadataFilter(key="kind", value="odd")], condition=FilterCondition.AND)

    async def script(store):
        return [await found(store, "mountain", 7, filters=filters) for filters in (one, two, one, two)]

    for ours, theirs in zip(*play(sides, script)):
        same(ours, theirs)


def test_hybrid(sides):
    async def script(store):
        return [await found(store, text, 10, mode=VectorStoreQueryMode.HYBRID) for text in ("library", "kitchen note")]

    for ours, theirs in zip(*play(sides, script, AsyncDenseVectorStrategy(hybrid=True, rrf=False))):
        same(ours, theirs)


def test_deletion(sides):
    async def script(store):
        nearest = [ids[0] for ids, _ in await found(store, "airport", 3)]
        await store._store.delete(ids=nearest, refresh_indices=True)
        rest = await found(store, "airport", 12)
        assert not {ids[0] for ids, _ in rest} & set(nearest)
        return rest

    same(*play(sides, script))
