"""VectorDBBench's client of Elasticsearch: it names the type `hnsw` itself, so its field is adopted, as an operator would."""

from conftest import COUNT, DIMS, embed, texts
from vectordb_bench.backend.clients.elastic_cloud.config import ElasticCloudConfig, ElasticCloudIndexConfig
from vectordb_bench.backend.clients.elastic_cloud.elastic_cloud import ElasticCloud
from vectordb_bench.backend.filter import IntFilter, LabelFilter, non_filter


def bench(url, index):
    case = ElasticCloudIndexConfig(M=64, efConstruction=400, num_candidates=200, use_force_merge=False)
    return ElasticCloud(DIMS, ElasticCloudConfig(host=url).to_dict(), case, indice=index, drop_old=True, with_scalar_labels=True)


def test_loading_and_searching(sides):
    embeddings = [embed(text) for text in texts()]
    label = LabelFilter(label_percentage=0.2)
    labels = [label.label_value if number % 5 == 0 else "other" for number in range(COUNT)]
    answers = []
    for url, index in ((sides.outrigger, sides.ours), (sides.direct, sides.twin)):
        database = bench(url, index)
        with database.init():
            assert database.insert_embeddings(embeddings, list(range(COUNT)), labels_data=labels) == (COUNT, None)
            database.optimize()
            if index == sides.ours:
                adopted = adopt(sides)
            served = sides.served()
            found = []
            for wanted in (non_filter, IntFilter(filter_rate=0.5, int_field="id", int_value=60), label):
                database.prepare_filter(wanted)
                found.append([database.search_embedding(embed(text), k=k) for text in ("harbour", "note 5") for k in (1, 10, 50)])
            answers.append(found)
            if index == sides.ours and adopted:
                assert sides.served() > served, "Outrigger served none itself"
    assert answers[0] == answers[1]
    assert all(len(ids) for found in answers[0] for ids in found)


def adopt(sides):
    """Whether the field could be adopted: its vectors are kept out of `_source`, and are to be had elsewhere since 8.17 only."""
    client = sides.clients[sides.outrigger]
    version = tuple(map(int, client.info()["version"]["number"].split(".")[:2]))
    if version < (8, 17):
        return False
    client.perform_request("PUT", f"/_ivf/{sides.ours}/vector", headers={"accept": "application/json"})
    # What was adopted is known at once: no 404.
    client.perform_request("GET", f"/_ivf/{sides.ours}/_stats", headers={"accept": "application/json"})
    sides.settle()
    return True
