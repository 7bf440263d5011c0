"""The life of an index: how it is created, what its mapping shows, closing, deletion and rebirth under the same name."""

import json
import pathlib

import pytest

from corpus import DIMS, WIDE, mappings, query, vector

KNN = {"field": "cos", "query_vector": query("cos"), "k": 10, "num_candidates": WIDE}
FOLDER = pathlib.Path(__file__).resolve().parents[3] / "mappings"
OPTIONS = [{"type": "ivf"}, {"type": "ivf", "nlist": 16}, {"type": "ivf", "nlist": 16, "nprobe": 4}, {"type": "ivf", "recall": 0.9}]


@pytest.fixture
def gone(outrigger):
    """A name that is free before and after."""
    yield from dropping(outrigger, "made")


def dropping(client, name):
    client.options(ignore_status=404).indices.delete(index=name)
    yield name
    client.options(ignore_status=404).indices.delete(index=name)


@pytest.mark.parametrize("options", OPTIONS, ids=json.dumps)
def test_the_mapping_shows_what_was_asked_for(outrigger, gone, options):
    field = {"type": "dense_vector", "dims": DIMS, "similarity": "cosine", "index_options": options, "meta": {"owner": "me"}}
    answer = outrigger.indices.create(index=gone, mappings={"properties": {"v": field}})
    assert answer.body == {"acknowledged": True, "shards_acknowledged": True, "index": gone}
    expected = {"type": "dense_vector", "dims": DIMS, "index": True, "similarity": "cosine"}
    ways = {
        "GET _mapping": outrigger.indices.get_mapping(index=gone)[gone]["mappings"]["properties"]["v"],
        "GET index": outrigger.indices.get(index=gone)[gone]["mappings"]["properties"]["v"],
        "GET _mapping/field": outrigger.indices.get_field_mapping(index=gone, fields="v")[gone]["mappings"]["v"]["mapping"]["v"],
        "GET _cluster/state": outrigger.cluster.state(index=gone, metric="metadata")["metadata"]["indices"][gone]["mappings"]["_doc"]["properties"]["v"],
    }
    for way, shown in ways.items():
        assert {key: shown[key] for key in expected} == expected, way
        assert options.items() <= shown["index_options"].items(), f"{way}: {shown['index_options']}"
        assert shown["meta"] == {"owner": "me"}, f"{way}: only the client's own key may show"
    assert outrigger.field_caps(index=gone, fields="v")["fields"]["v"]["dense_vector"]["meta"] == {"owner": ["me"]}


@pytest.mark.parametrize("element_type, dims", [("byte", 8), ("bit", 64)])
def test_element_types(outrigger, gone, version, element_type, dims):
    if element_type == "bit" and version < (8, 15, 0):
        pytest.skip("bit vectors exist since 8.15")
    field = {"type": "dense_vector", "dims": dims, "element_type": element_type, "index": True, "similarity": "l2_norm"}
    for options in ({"index_options": {"type": "ivf", "nlist": 3}}, {}):
        outrigger.indices.create(index=gone, mappings={"properties": {"v": field | options}})
        shown = outrigger.indices.get_mapping(index=gone)[gone]["mappings"]["properties"]["v"]
        assert shown == field | {"index_options": options.get("index_options", {"type": "ivf"})}
        outrigger.indices.delete(index=gone)


def test_the_rest_of_an_index_is_as_elasticsearch_makes_it(pair):
    def without_options(client, index):
        answer = client.indices.get(index=index)
        for field in walk(answer[index]["mappings"]["properties"]):
            field.pop("index_options", None)
        answer[index]["settings"]["index"].pop("uuid")
        return answer

    pair.same(without_options)
    pair.same(lambda client, index: client.field_caps(index=index, fields="*"))
    pair.same(lambda client, index: client.indices.get_mapping(index=index, filter_path="*.mappings.properties.title"))


def walk(properties):
    for field in properties.values():
        yield field
        yield from walk(field.get("properties", {}))


def test_a_field_that_names_no_options(outrigger, direct, gone):
    """As applications create it: searched by Outrigger, with Elasticsearch's results."""
    outrigger.indices.create(index=gone, mappings={"properties": {"v": {"type": "dense_vector", "dims": DIMS, "similarity": "l2_norm"}}})
    lines = [line for row in range(100) for line in ({"index": {"_id": str(row)}}, {"v": vector("l2", row)})]
    outrigger.bulk(index=gone, operations=lines, refresh=True)
    answer = outrigger.search(index=gone, knn={"field": "v", "query_vector": query("l2"), "k": 10, "num_candidates": 100})
    expected = sorted(range(100), key=lambda row: sum((a - b) ** 2 for a, b in zip(vector("l2", row), query("l2"))))[:10]
    assert [hit["_id"] for hit in answer["hits"]["hits"]] == [str(row) for row in expected]


def test_dims_from_the_first_document(outrigger, gone, version):
    if version < (8, 11, 0):
        pytest.skip("dims may be absent since 8.11")
    outrigger.indices.create(index=gone, mappings={"properties": {"v": {"type": "dense_vector", "index_options": {"type": "ivf"}}}})
    outrigger.index(index=gone, id="1", document={"v": [1.0, 2.0, 3.0]}, refresh=True)
    assert outrigger.indices.get_mapping(index=gone)[gone]["mappings"]["properties"]["v"]["dims"] == 3
    assert outrigger.search(index=gone, knn={"field": "v", "query_vector": [1, 2, 3], "k": 1, "num_candidates": 5})["hits"]["hits"][0]["_id"] == "1"


def test_mapping_updates_keep_the_type(outrigger, gone):
    field = {"type": "dense_vector", "dims": DIMS, "similarity": "cosine"}
    outrigger.indices.create(index=gone, mappings={"properties": {"v": field | {"index_options": {"type": "ivf", "nlist": 8}}}})
    outrigger.indices.put_mapping(index=gone, properties={"title": {"type": "text"}})
    outrigger.indices.put_mapping(index=gone, properties={"v": field})
    outrigger.indices.put_mapping(index=gone, properties={"w": {"type": "dense_vector", "dims": 4, "index_options": {"type": "ivf"}}})
    shown = outrigger.indices.get_mapping(index=gone)[gone]["mappings"]["properties"]
    assert shown["v"]["index_options"]["type"] == shown["w"]["index_options"]["type"] == "ivf"
    assert shown["v"]["index_options"]["nlist"] == 8


def test_other_types_are_left_alone(outrigger, direct, gone):
    options = {"type": "hnsw", "m": 8, "ef_construction": 50}
    outrigger.indices.create(index=gone, mappings={"properties": {"v": {"type": "dense_vector", "dims": 4, "similarity": "cosine", "index_options": options}}})
    assert outrigger.indices.get_mapping(index=gone).body == direct.indices.get_mapping(index=gone).body
    assert direct.indices.get_mapping(index=gone)[gone]["mappings"]["properties"]["v"]["index_options"] == options


def test_closed_index(scratch):
    scratch.same(lambda client, index: client.indices.close(index=index))
    scratch.search(knn=KNN)
    scratch.search(knn=KNN, ignore_unavailable=True)
    scratch.same(lambda client, index: client.indices.open(index=index))
    scratch.same(lambda client, index: client.cluster.health(index=index, wait_for_status="green", filter_path="status"))
    scratch.search(knn=KNN, source=False)


def test_deleted_and_recreated_under_the_same_name(scratch, version):
    scratch.search(knn=KNN, source=False)
    for client, index, kind in ((scratch.outrigger, scratch.ivf, "ivf"), (scratch.direct, scratch.twin, "hnsw")):
        client.indices.delete(index=index)
    scratch.search(knn=KNN, source=False)
    for client, index, kind in ((scratch.outrigger, scratch.ivf, "ivf"), (scratch.direct, scratch.twin, "hnsw")):
        client.indices.create(index=index, mappings=mappings(kind, version), settings={"number_of_shards": 1, "number_of_replicas": 0})
    scratch.search(knn=KNN, source=False)
    scratch.same(lambda client, index: client.index(index=index, id="only", document={"cos": query("cos")}, refresh=True))
    assert [hit["_id"] for hit in scratch.search(knn=KNN)["hits"]["hits"]] == ["only"]


def test_alias_that_moves(scratch, outrigger, direct, version):
    """A name that points to another index from one request to the next."""
    for client, index, kind in ((outrigger, scratch.ivf, "ivf"), (direct, scratch.twin, "hnsw")):
        second = f"{index}-2"
        client.options(ignore_status=404).indices.delete(index=second)
        client.indices.create(index=second, mappings=mappings(kind, version), aliases={}, settings={"number_of_shards": 1, "number_of_replicas": 0})
        client.index(index=second, id="second", document={"cos": query("cos")}, refresh=True)
        client.indices.put_alias(index=index, name=f"{index}-now")
    try:
        scratch.same(lambda client, index: client.search(index=f"{index}-now", knn=KNN, source=False))
        for client, index in ((outrigger, scratch.ivf), (direct, scratch.twin)):
            move = [{"remove": {"index": index, "alias": f"{index}-now"}}, {"add": {"index": f"{index}-2", "alias": f"{index}-now"}}]
            client.indices.update_aliases(actions=move)
        moved = scratch.same(lambda client, index: client.search(index=f"{index}-now", knn=KNN, source=False))
        assert [hit["_id"] for hit in moved["hits"]["hits"]] == ["second"]
    finally:
        for client, index in ((outrigger, scratch.ivf), (direct, scratch.twin)):
            client.indices.delete(index=f"{index}-2")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("templates/*.component.json")), ids=lambda file: file.name)
def test_shipped_component_templates(outrigger, file):
    name = file.name.removesuffix(".component.json")
    body = json.loads(file.read_text())
    outrigger.cluster.put_component_template(name=name, template=body["template"], meta=body["_meta"])
    try:
        shown = outrigger.cluster.get_component_template(name=name)["component_templates"][0]["component_template"]["template"]
        for field, asked in body["template"]["mappings"]["properties"].items():
            assert shown["mappings"]["properties"][field]["index_options"] == asked["index_options"]
            assert "meta" not in shown["mappings"]["properties"][field]
    finally:
        outrigger.cluster.delete_component_template(name=name)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("templates/*.index.json")), ids=lambda file: file.name)
def test_shipped_index_templates(outrigger, file):
    """Each makes an index whose vector fields are of type ivf."""
    body = json.loads(file.read_text())
    components = body.get("composed_of", [])
    for name in components:
        outrigger.cluster.put_component_template(name=name, **{"template": json.loads((file.parent / f"{name}.component.json").read_text())["template"]})
    outrigger.indices.put_index_template(name="shipped", **{key.lstrip("_"): value for key, value in body.items()})
    index = body["index_patterns"][0].replace("*", "-tried")
    try:
        outrigger.indices.create(index=index)
        fields = list(walk(outrigger.indices.get_mapping(index=index)[index]["mappings"]["properties"]))
        vectors = [field for field in fields if field.get("type") == "dense_vector"]
        assert vectors and all(field["index_options"]["type"] == "ivf" for field in vectors)
    finally:
        outrigger.options(ignore_status=404).indices.delete(index=index)
        outrigger.indices.delete_index_template(name="shipped")
        for name in components:
            outrigger.cluster.delete_component_template(name=name)
