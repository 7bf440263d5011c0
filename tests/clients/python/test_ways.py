"""Ways of using the client beside plain calls: its query language, its vector store, its options, parameters of all calls, requests that are given up, and nodes that are gone."""

import asyncio
import concurrent.futures
import contextlib
import socket
import time

import elasticsearch
import pytest
from elasticsearch import AsyncElasticsearch

from corpus import WIDE, index_options, query, vector
from twin import compare, plain

dsl = pytest.importorskip("elasticsearch.dsl", reason="part of the client from 8.18 on")
vectorstore = pytest.importorskip("elasticsearch.helpers.vectorstore", reason="part of the client from 8.14 on")
KNN = {"field": "cos", "query_vector": query("cos"), "k": 10, "num_candidates": WIDE}


def sides(pair):
    return (pair.outrigger, pair.ivf), (pair.direct, pair.twin)


def closed_port():
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_query_language(pair):
    def found(build):
        answers = [build(dsl.Search(using=client, index=index)).execute() for client, index in sides(pair)]
        compare(*(plain(answer.to_dict(), index) for answer, (_, index) in zip(answers, sides(pair))))
        return [hit.meta.id for hit in answers[0]]

    near = {"field": "cos", "k": 10, "num_candidates": WIDE, "query_vector": query("cos")}
    assert len(found(lambda search: search.knn(**near))) == 10
    assert found(lambda search: search.knn(**near, filter=dsl.Q("term", tag="sail")).source(["n"]).extra(size=5))
    assert found(lambda search: search.query("match", title="anchor").knn(**near, boost=0.5)[:8])
    assert found(lambda search: search.knn(**near).sort("n")[2:6])
    assert found(lambda search: search.query(dsl.query.Knn(field="cos", query_vector=query("cos"), num_candidates=WIDE)).filter("range", n={"lt": 100}))
    assert found(lambda search: search.filter("term", tag="sail").extra(track_total_hits=True)) and found(lambda search: search[:3].params(preference="_local"))
    counts = [dsl.Search(using=client, index=index).filter("term", tag="sail").count() for client, index in sides(pair)]
    assert counts[0] == counts[1] > 0
    scanned = [sorted(hit.meta.id for hit in dsl.Search(using=client, index=index).query("match", title="anchor").scan()) for client, index in sides(pair)]
    assert scanned[0] == scanned[1] and scanned[0]


def test_documents_of_the_query_language(scratch):
    """A class with a vector field, which makes its index, saves itself and is found."""
    read = []
    for client, index in sides(scratch):
        options = index_options("ivf" if client is scratch.outrigger else "hnsw")

        class Note(dsl.Document):
            text = dsl.Text()
            v = dsl.DenseVector(dims=16, similarity="cosine", index=True, index_options=options)

            class Index:
                name = index

        client.indices.delete(index=index)
        Note.init(using=client)
        for number in range(30):
            Note(meta={"id": str(number)}, text=f"note {number}", v=vector("cos", number)).save(using=client)
        Note._index.refresh(using=client)
        note = Note.get(id="7", using=client)
        note.text = "changed"
        note.save(using=client, refresh=True)
        note = Note.get(id="7", using=client)
        # From 9.2 on a vector is no longer part of what is read.
        read.append((note.text, len(note.v or [])))
        Note.get(id="8", using=client).delete(using=client, refresh=True)
        Note.bulk((Note(meta={"id": f"b{number}"}, v=vector("cos", 50 + number)) for number in range(20)), using=client, refresh=True)
    assert read[0] == read[1] and read[0][0] == "changed"
    scratch.search(knn={"field": "v", "query_vector": query("cos"), "k": 12, "num_candidates": WIDE}, size=12)
    scratch.search(knn={"field": "v", "query_vector": vector("cos", 8), "k": 3, "num_candidates": WIDE}, source=False)


def test_vector_store(scratch):
    """The client's own vector store, which makes the index, writes and searches."""

    class Embedding(vectorstore.EmbeddingService):
        def embed_documents(self, texts):
            return [vector("cos", int(text.split()[1])) for text in texts]

        def embed_query(self, text):
            # It asks for a text of its own to learn how long a vector is.
            number = text.split()[1]
            return vector("cos", int(number) if number.isdigit() else 0)

    found = []
    for client, index in sides(scratch):
        client.indices.delete(index=index)
        strategy = vectorstore.DenseVectorStrategy(distance=vectorstore.DistanceMetric.COSINE)
        store = vectorstore.VectorStore(client, index=index, retrieval_strategy=strategy, embedding_service=Embedding(), metadata_mappings={"even": {"type": "keyword"}})
        if client is scratch.direct:
            # A quantised type of Elasticsearch's choice would give estimates.
            mapping = scratch.outrigger.indices.get_mapping(index=scratch.ivf)[scratch.ivf]["mappings"]
            assert mapping["properties"]["vector_field"]["index_options"]["type"] == "ivf"
            mapping["properties"]["vector_field"]["index_options"] = index_options("hnsw")
            client.indices.create(index=index, mappings=mapping, settings={"number_of_shards": 1})
        texts = [f"note {number}" for number in range(60)]
        store.add_texts(texts, metadatas=[{"even": str(number % 2 == 0)} for number in range(60)], ids=[str(number) for number in range(60)])
        hits = store.search(query="note 12", k=6, num_candidates=60)
        filtered = store.search(query="note 12", k=6, num_candidates=60, filter=[{"term": {"metadata.even": "True"}}])
        store.delete(ids=["12"])
        left = store.search(query="note 12", k=3, num_candidates=60)
        found.append([[(hit["_id"], pytest.approx(hit["_score"], rel=1e-5)) for hit in part] for part in (hits, filtered, left)])
    assert [[(hit, score.expected) for hit, score in part] for part in found[0]] == found[1]
    assert found[1][0][0][0] == "12" and found[1][2][0][0] != "12"


@pytest.mark.parametrize(
    "options",
    [
        {"filter_path": "hits.hits._id,hits.total"},
        {"filter_path": ["-hits.hits._score", "-took"]},
        {"filter_path": "absent"},
        {"human": True},
        {"pretty": True},
        {"error_trace": True},
        {"ignore_unavailable": True},
        {"allow_partial_search_results": False},
        {"rest_total_hits_as_int": True},
        {"typed_keys": True},
        {"request_cache": True},
        {"preference": "_local"},
        {"search_type": "dfs_query_then_fetch"},
        {"batched_reduce_size": 2},
        {"ccs_minimize_roundtrips": True},
        {"timeout": "10s"},
        {"terminate_after": 5},
        {"stored_fields": "_none_"},
        {"docvalue_fields": ["n"]},
        {"version": True, "seq_no_primary_term": True},
        {"explain": False, "track_scores": True, "sort": ["n"]},
    ],
    ids=lambda options: "-".join(options),
)
def test_parameters(pair, options):
    pair.search(knn=KNN, **options)


def test_errors_with_their_traces(pair):
    for options in ({"error_trace": True}, {"human": True}, {"filter_path": "error.type"}, {"pretty": True}):
        ours, theirs = pair.both(lambda client, index: client.search(index=f"{index},absent", knn=KNN, **options))
        assert ours[0] == theirs[0] == 404
        assert list(ours[1]) == list(theirs[1]), options
        ours, theirs = pair.both(lambda client, index: client.search(index=index, knn=KNN | {"k": 0}, **options))
        assert (ours[0], list(ours[1])) == (theirs[0], list(theirs[1])), options
        assert ("stack_trace" in str(ours[1])) == ("stack_trace" in str(theirs[1]))
    pair.same(lambda client, index: client.search(index=f"{index},absent", knn=KNN, ignore_unavailable=True))
    pair.same(lambda client, index: client.search(index="absent*", knn=KNN, allow_no_indices=False))
    pair.same(lambda client, index: client.options(ignore_status=[404]).get(index=index, id="absent"))


def test_existence(pair):
    for call in (
        lambda client, index: client.exists(index=index, id="1"),
        lambda client, index: client.exists(index=index, id="absent"),
        lambda client, index: client.exists_source(index=index, id="1"),
        lambda client, index: client.indices.exists(index=index),
        lambda client, index: client.indices.exists(index=f"{index},absent"),
        lambda client, index: client.indices.exists_alias(name="absent"),
        lambda client, index: client.indices.exists_index_template(name="absent"),
        lambda client, index: client.ping(),
    ):
        (ours, theirs) = (call(client, index) for client, index in sides(pair))
        assert bool(ours) == bool(theirs), call
    for client, index in sides(pair):
        assert client.options(headers={"x-opaque-id": "mine"}).search(index=index, knn=KNN).meta.headers["x-opaque-id"] == "mine"
        assert client.options(opaque_id="other").search(index=index, knn=KNN).meta.headers["x-opaque-id"] == "other"


def test_credentials_that_nobody_asks_for(pair):
    """Elasticsearch without security takes any: so does Outrigger."""
    for options in ({"basic_auth": ("somebody", "wrong")}, {"api_key": "bm8ta2V5"}, {"bearer_auth": "no token"}):
        ours, theirs = pair.both(lambda client, index: client.options(**options).search(index=index, knn=KNN, source=False))
        assert ours[0] == theirs[0] == 200, options


def test_a_node_that_is_gone(pair, servers):
    """The client goes on with the node that answers; once alone with a dead one it says so, and works again when one is back."""
    for url, index in zip(servers, (pair.ivf, pair.twin)):
        with elasticsearch.Elasticsearch([closed_port(), url], request_timeout=20, max_retries=3) as client:
            for _ in range(6):
                assert len(client.search(index=index, knn=KNN, source=False)["hits"]["hits"]) == 10
    with elasticsearch.Elasticsearch(closed_port(), max_retries=1) as client, pytest.raises(elasticsearch.ConnectionError):
        client.search(index=pair.ivf, knn=KNN)


def test_timeouts_and_cancelled_requests(pair, servers):
    """What a client gives up leaves the others unharmed, and its connections usable."""

    async def work(url, index):
        async with AsyncElasticsearch(url, request_timeout=60, max_retries=0) as client:
            for _ in range(5):
                asked = [asyncio.create_task(client.search(index=index, knn=KNN)) for _ in range(20)]
                await asyncio.sleep(0.002)
                for task in asked[::2]:
                    task.cancel()
                answers = await asyncio.gather(*asked, return_exceptions=True)
                assert all(isinstance(answer, asyncio.CancelledError) or len(answer["hits"]["hits"]) == 10 for answer in answers)
                assert not any(isinstance(answer, asyncio.CancelledError) for answer in answers[1::2])
            hasty = client.options(request_timeout=0.0001)
            with contextlib.suppress(elasticsearch.ConnectionTimeout):
                await hasty.search(index=index, knn=KNN)
            return (await client.search(index=index, knn=KNN, source=False))["hits"]["hits"]

    ours, theirs = (asyncio.run(work(url, index)) for url, index in zip(servers, (pair.ivf, pair.twin)))
    compare(plain(ours, pair.ivf), plain(theirs, pair.twin))


def test_asynchronous_query_language(pair, servers):
    async def found(url, index):
        async with AsyncElasticsearch(url) as client:
            answer = await dsl.AsyncSearch(using=client, index=index).knn(field="cos", k=5, num_candidates=WIDE, query_vector=query("cos")).execute()
            return plain(answer.to_dict(), index)

    ours, theirs = (asyncio.run(found(url, index)) for url, index in zip(servers, (pair.ivf, pair.twin)))
    compare(ours, theirs)


def test_many_threads_and_one_client(pair):
    """A pool of connections, all in use."""
    with concurrent.futures.ThreadPoolExecutor(24) as threads:
        for client, index in sides(pair):
            began = time.monotonic()
            answers = list(threads.map(lambda number: client.search(index=index, knn=KNN | {"query_vector": query("cos", number % 30)}, source=False), range(200)))
            assert all(len(answer["hits"]["hits"]) == 10 for answer in answers) and time.monotonic() - began < 120
