"""The vectors of a bench: read, written as JSON text, and their true neighbours."""

import hashlib
import json
import pathlib

import numpy as np

from client import write_requests
from places import ROOT, cache
from stack import say

K = 10
BULK = 500
QUERIES = 2000
JUDGED = 1000


class Dataset:
    """Base vectors, queries, and for each query the similarity of its K-th neighbour."""

    # What a document has beside its vector, and a word for it in the names of files.
    properties = {"title": {"type": "keyword"}}
    kind = ""

    def __init__(self, name, similarity, base, queries, origin, limit=None):
        self.name, self.similarity, self.origin = name, similarity, origin
        self.base, self.queries = base[:limit], queries[:QUERIES]
        self.texts = float_texts(base.dtype)
        self.dims = base.shape[1]
        self.key = hashlib.sha256(self.base.tobytes() + self.queries.tobytes()).hexdigest()[:16]
        self.floors = self.truth()

    def describe(self):
        return {"origin": self.origin, "base": len(self.base), "queries": len(self.queries), "judged": JUDGED, "dims": self.dims, "similarity": self.similarity, "sha256": self.key}

    def vector(self, row):
        """A vector as JSON."""
        codes = row.view(np.uint16) if row.dtype == np.float16 else row
        return "[" + ",".join([self.texts[code] for code in codes.tolist()]) + "]"

    def title(self, number):
        return f"document {number} of the set {self.name}, with a title of sixty characters"[:60]

    def document(self, number):
        """The members of a document beside its vector, as JSON."""
        return f'"title":"{self.title(number)}"'

    def bulk_file(self, index, folder):
        """All documents as prepared _bulk requests for one index; kept in the cache for any index."""
        path = cache() / f"bulk-{self.kind}{self.key}.requests"
        if not path.exists():
            say(f"writing {len(self.base):,} documents as bulk requests")
            beside = path.with_suffix(".new")
            write_requests(beside, self.bulk_requests())
            beside.rename(path)
        mine = folder / "bulk.requests"
        mine.write_bytes(path.read_bytes().replace(b"POST /INDEX/_bulk ", f"POST /{index}/_bulk ".encode()))
        return mine

    def bulk_requests(self):
        for first in range(0, len(self.base), BULK):
            lines = []
            for number in range(first, min(first + BULK, len(self.base))):
                lines.append(f'{{"index":{{"_id":"{number}"}}}}\n{{{self.document(number)},"v":{self.vector(self.base[number])}}}\n')
            yield "POST", "/INDEX/_bulk", "".join(lines).encode()

    def search_requests(self, index, candidates, source):
        """One knn search for each query."""
        rest = f',"k":{K}' + (f',"num_candidates":{candidates}' if candidates else "") + "}" + f',"_source":{json.dumps(source)}}}'
        for row in self.queries:
            yield "POST", f"/{index}/_search", f'{{"knn":{{"field":"v","query_vector":{self.vector(row)}{rest}'.encode()

    def similarities(self, queries):
        """Each query against all base vectors; larger is nearer."""
        if not hasattr(self, "floats"):
            self.floats = self.base.astype(np.float32)
            if self.similarity == "cosine":
                self.floats /= np.linalg.norm(self.floats, axis=1, keepdims=True)
            self.squares = (self.floats**2).sum(axis=1)
        queries = queries.astype(np.float32)
        if self.similarity == "cosine":
            return queries / np.linalg.norm(queries, axis=1, keepdims=True) @ self.floats.T
        return 2 * (queries @ self.floats.T) - self.squares

    def truth(self):
        path = cache() / f"truth-{self.key}-{self.similarity}-{K}-{JUDGED}.npy"
        if path.exists():
            return np.load(path)
        say(f"exact neighbours of {JUDGED:,} queries of {self.name}")
        floors = np.empty(JUDGED, np.float32)
        for first in range(0, JUDGED, 100):
            scores = self.similarities(self.queries[first : first + 100])
            floors[first : first + 100] = np.partition(scores, -K, axis=1)[:, -K][: JUDGED - first]
        np.save(path, floors)
        return floors

    def recall(self, hits):
        """Recall@K. A document as near as the K-th true neighbour counts: there are duplicates."""
        slack = 1e-6 if self.similarity == "cosine" else 0.5
        found = 0
        for first in range(0, JUDGED, 100):
            scores = self.similarities(self.queries[first : first + 100])
            for row, floor, ids in zip(scores, self.floors[first:], hits[first : first + 100]):
                found += min(K, int((row[[int(number) for number in set(ids)]] >= floor - slack).sum()))
        return round(found / (K * JUDGED), 4)


def float_texts(dtype):
    """The JSON text of each value that a two-byte float or a byte can have, as float32 prints it."""
    if dtype == np.float16:
        values = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    else:
        values = np.arange(256, dtype=np.float32)
    return [str(value) for value in values.tolist()] if dtype != np.float16 else [np.format_float_positional(value, trim="-") for value in values]


def names(folder):
    """Which sets there are: the large ones of a data folder, or the slice that ships with the project."""
    if (folder / "minilm-queries-384.f16.npy").exists():
        return ["mini", "sift"]
    say(f"{folder} has no vectors: using the WordNet slice that ships with the project, which is small")
    return ["wordnet"]


def read(name, folder, limit=None):
    if name == "mini":
        rows = np.load(folder / "minilm-queries-384.f16.npy", mmap_mode="r")
        return Dataset(name, "cosine", rows[:108_000], rows[-2000:], "minilm-queries-384.f16.npy", limit)
    if name == "sift":
        base = np.load(folder / "sift-photo-128.u8.npy", mmap_mode="r")
        return Dataset(name, "l2_norm", base, np.load(folder / "sift-photo-128-queries.u8.npy"), "sift-photo-128.u8.npy", limit)
    path = pathlib.Path(ROOT / "mappings/wordnet/glosses-384.f16.npy")
    rows = np.load(path, mmap_mode="r")
    return Dataset("wordnet", "cosine", rows[:-2000], rows[-2000:], path.name, limit)
