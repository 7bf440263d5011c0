"""The documents, mappings and query vectors of the client tests: small and made from a fixed seed, so that HNSW with wide candidates finds everything."""

import functools

import numpy as np

COUNT = 240
DIMS = 16
BIT_DIMS = 64
WORDS = "harbour anchor sail mast rudder keel tide reef gull rope deck lantern".split()
WIDE = 240
SIMILARITY = {"cos": "cosine", "l2": "l2_norm", "dot": "dot_product", "mip": "max_inner_product"}


def index_options(kind):
    """The twin's graph is dense enough to be exact on so few documents."""
    return {"type": "hnsw", "m": 48, "ef_construction": 400} if kind == "hnsw" else {"type": "ivf"}


def mappings(kind, version):
    """Every element type and similarity, nested vectors, and fields to filter, sort and aggregate by."""
    options = {"index": True, "index_options": index_options(kind)}
    properties = {name: {"type": "dense_vector", "dims": DIMS, "similarity": similarity, **options} for name, similarity in SIMILARITY.items()}
    properties["byte"] = {"type": "dense_vector", "dims": DIMS, "element_type": "byte", "similarity": "l2_norm", **options}
    if version >= (8, 15, 0):
        properties["bit"] = {"type": "dense_vector", "dims": BIT_DIMS, "element_type": "bit", **options}
    properties["kids"] = {
        "type": "nested",
        "properties": {"v": {"type": "dense_vector", "dims": DIMS, "similarity": "cosine", **options}, "part": {"type": "keyword"}},
    }
    properties |= {"title": {"type": "text"}, "tag": {"type": "keyword"}, "n": {"type": "integer"}}
    return {"properties": properties}


@functools.cache
def matrix(field, rows):
    """Half-rounded numbers survive JSON and float32 unchanged; each field has its own seed."""
    generator = np.random.default_rng(sum(map(ord, field)))
    if field == "byte":
        return generator.integers(-100, 100, (rows, DIMS))
    if field == "bit":
        return generator.integers(-128, 128, (rows, BIT_DIMS // 8))
    values = generator.normal(size=(rows, DIMS))
    if field == "dot":
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        return values.astype(np.float32)
    return values.astype(np.float16)


def vector(field, row, rows=COUNT + 40):
    return [value.item() for value in matrix(field, rows)[row]]


def query(field, number=0):
    """Query vectors are rows that no document has."""
    return vector("cos" if field == "kids.v" else field, COUNT + number)


def documents(count=COUNT):
    """Document n; every seventh has no vectors, every fifth has no nested children."""
    made = []
    for row in range(count):
        document = {"title": " ".join(WORDS[(row * step) % len(WORDS)] for step in (1, 5, 7)), "tag": WORDS[row % 5], "n": row}
        if row % 7 != 3:
            document |= {field: vector(field, row) for field in (*SIMILARITY, "byte")}
            document["bit"] = vector("bit", row)
        if row % 5 != 2:
            document["kids"] = [{"v": vector("kids", (row * 3 + child) % COUNT), "part": WORDS[child]} for child in range(1 + row % 3)]
        made.append(document)
    return made
