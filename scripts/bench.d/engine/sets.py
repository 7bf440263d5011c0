"""Vectors to search: real ones, and made ones that differ from them on purpose."""

import hashlib

import numpy as np
from places import ROOT, cache
from stack import say

DEPTHS = (10, 100)
QUERIES = 2000
REAL = ("mini", "sift", "wordnet")
MADE = ("manifold", "clusters")


class Queries:
    """One half of the queries of a set, with the similarity of the k-th neighbour of each."""

    def __init__(self, owner, half, rows):
        self.owner, self.half, self.rows = owner, half, rows
        self.floors = owner.floors_of(rows)
        self.slack = 1e-5 * np.maximum(1.0, np.abs(self.floors[DEPTHS[0]]))

    def file(self, passes=1):
        """The rows as a file, so many times over."""
        path = self.owner.folder / f"{self.half}-{passes}.npy"
        if not path.exists():
            np.save(path, np.tile(self.rows, (passes, 1)))
        return path

    def recall(self, ids, k):
        """Recall@k of row numbers. A row as near as the k-th true neighbour counts: there are duplicates."""
        found = 0
        for query, floor, slack, hits in zip(self.rows, self.floors[k], self.slack, ids):
            hits = np.unique(hits[hits >= 0])
            found += min(k, int((self.owner.similarity(query, self.owner.base[hits]) >= floor - slack).sum()))
        return round(found / (k * len(self.rows)), 4)


class VectorSet:
    """Base vectors, and queries in two halves: settings are chosen on one and measured on the other."""

    def __init__(self, name, metric, base, queries, origin):
        self.name, self.metric, self.origin = name, metric, origin
        self.base, queries = (np.ascontiguousarray(part, np.float32) for part in (base, queries[:QUERIES]))
        if metric == "cosine":
            for part in (self.base, queries):
                part /= np.linalg.norm(part, axis=1, keepdims=True)
        self.dims = self.base.shape[1]
        self.squares = (self.base**2).sum(axis=1)
        key = hashlib.sha256(self.base.tobytes() + queries.tobytes()).hexdigest()[:16]
        self.folder = cache() / f"engine-{name}-{key}"
        self.folder.mkdir(exist_ok=True)
        self.file = self.folder / "base.npy"
        if not self.file.exists():
            np.save(self.file, self.base)
        say(f"{name}: exact neighbours of {len(queries):,} queries among {len(self.base):,} vectors")
        self.choosing, self.measuring = Queries(self, "choosing", queries[0::2]), Queries(self, "measuring", queries[1::2])

    def describe(self):
        return {"origin": self.origin, "made": self.origin.startswith("made"), "base": len(self.base), "dims": self.dims, "metric": self.metric, "queries_per_half": len(self.measuring.rows)}

    def similarity(self, query, rows):
        """Larger is nearer."""
        return rows @ query if self.metric == "cosine" else -((rows - query) ** 2).sum(axis=1)

    def similarities(self, queries):
        """Each query against the whole base."""
        products = queries @ self.base.T
        if self.metric == "cosine":
            return products
        products *= 2
        products -= self.squares
        return products - (queries**2).sum(axis=1)[:, None]

    def floors_of(self, queries, kept=None):
        """For each depth, the similarity of that neighbour of each query, among all vectors or those of a mask."""
        floors = {k: np.empty(len(queries), np.float32) for k in DEPTHS}
        for first in range(0, len(queries), 100):
            scores = self.similarities(queries[first : first + 100])
            scores = scores if kept is None else scores[:, kept]
            for k in DEPTHS:
                floors[k][first : first + 100] = np.partition(scores, -k, axis=1)[:, -k]
        return floors

    def part(self, count):
        """The first vectors, with the same queries."""
        queries = np.empty((2 * len(self.choosing.rows), self.dims), np.float32)
        queries[0::2], queries[1::2] = self.choosing.rows, self.measuring.rows
        return VectorSet(f"{self.name}-{count // 1000}k", self.metric, self.base[:count], queries, f"the first {count:,} of {self.origin}")


def names(data):
    """Which sets there are: those of a data folder where it has them, the slice of the project, and made ones."""
    real = [name for name, file in (("mini", "minilm-queries-384.f16.npy"), ("sift", "sift-photo-128.u8.npy")) if (data / file).exists()]
    if not real:
        say(f"{data} has no vectors: the only real set is the WordNet slice that ships with the project, which is small")
    return [*real, "wordnet", *MADE]


def read(name, data, limit=None):
    """A set by its name, cut to its first `limit` vectors."""
    if name == "mini":
        rows = np.load(data / "minilm-queries-384.f16.npy", mmap_mode="r")
        return VectorSet(name, "cosine", rows[:108_000][:limit], rows[-QUERIES:], "real: search queries and questions, embedded by all-MiniLM-L6-v2")
    if name == "sift":
        base = np.load(data / "sift-photo-128.u8.npy", mmap_mode="r")
        return VectorSet(name, "l2", base[:limit], np.load(data / "sift-photo-128-queries.u8.npy"), "real: SIFT descriptors of photographs")
    if name == "wordnet":
        rows = np.load(ROOT / "mappings/wordnet/glosses-384.f16.npy", mmap_mode="r")
        return VectorSet(name, "cosine", rows[:-QUERIES][:limit], rows[-QUERIES:], "real: glosses of WordNet, embedded by all-MiniLM-L6-v2")
    return manifold(limit or 200_000) if name == "manifold" else clusters(limit or 200_000)


def manifold(count, dims=256, inner=14):
    """A smooth surface of low dimension in a wide space, with a little noise: few directions matter, and none is an axis."""
    source = np.random.default_rng(1)
    place = source.standard_normal((count + QUERIES, inner), np.float32)
    first = source.standard_normal((inner, 64), np.float32) / np.sqrt(inner)
    second = source.standard_normal((64, dims), np.float32) / 8
    rows = np.tanh(place @ first * 1.5) @ second + 0.02 * source.standard_normal((count + QUERIES, dims), np.float32)
    return VectorSet("manifold", "l2", rows[:count], rows[count:], f"made: a surface of {inner} dimensions bent into {dims}, with noise")


def clusters(count, dims=96, number=2000):
    """Clusters of very different sizes and widths, each wide in its own few directions; one query in ten lies between them."""
    source = np.random.default_rng(2)
    share = 1.0 / np.arange(1, number + 1) ** 0.8
    member = source.choice(number, count + QUERIES, p=share / share.sum())
    centres = source.standard_normal((number, dims), np.float32)
    widths = (source.gamma(1.5, 0.3, (number, 1)) * source.gamma(0.7, 1.0, (number, dims))).astype(np.float32)
    rows = centres[member] + widths[member] * source.standard_normal((count + QUERIES, dims), np.float32)
    queries = rows[count:]
    queries[::10] = source.standard_normal((len(queries[::10]), dims), np.float32)
    return VectorSet("clusters", "cosine", rows[:count], source.permutation(queries), f"made: {number:,} clusters of unequal size, width and shape")
