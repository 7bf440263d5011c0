"""What is compared: Outrigger's engine and the libraries, behind one interface."""

import json
import subprocess
import time

import numpy as np
from stack import Stop
from threadpoolctl import threadpool_limits

BUILD_THREADS = 2
# A block of passes lasts at least so long, in seconds.
BLOCK = 0.25


class Peer:
    """An index of one kind. `modes`: how a thread may ask, one query a call or all as one batch."""

    name = family = None
    modes = ("single",)

    def build(self, vectors):
        """Builds with two threads; returns seconds and bytes per vector."""
        raise NotImplementedError

    def ladders(self, k):
        """Settings, in rows along which effort and recall rise."""
        raise NotImplementedError

    def ask(self, rows, k, setting, mode):
        """Row numbers of the hits of each query, and the seconds it took."""
        raise NotImplementedError

    def recall(self, queries, k, setting, mode):
        with threadpool_limits(1):
            ids, _ = self.ask(queries.rows, k, setting, mode)
        return queries.recall(ids, k)

    def speed(self, queries, k, setting, mode, seconds=BLOCK):
        """Queries per second, of one block of passes."""
        asked, taken = 0, 0.0
        with threadpool_limits(1):
            while taken < seconds:
                taken += self.ask(queries.rows, k, setting, mode)[1]
                asked += len(queries.rows)
        return asked / taken


class Outrigger(Peer):
    """`outrigger engine` of a release binary: each measurement is a process of its own, which warms up before it measures."""

    name = family = "outrigger"

    def __init__(self, binary, help_text=None):
        self.binary = str(binary)
        self.help = help_text or subprocess.run([self.binary, "engine", "search", "--help"], capture_output=True, text=True, check=True).stdout
        self.modes = ("single", "batch") if "--batch" in self.help else ("single",)
        self.known = {}

    def run(self, *words):
        done = subprocess.run([self.binary, "engine", *map(str, words), "--json"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Stop(f"outrigger engine {' '.join(map(str, words))}: {done.stderr.strip()[-600:]}")
        return json.loads(done.stdout)

    def build(self, vectors):
        self.vectors, self.dir = vectors, vectors.folder / "outrigger"
        self.known = {}
        built = self.run("build", "--data", vectors.file, "--metric", vectors.metric, "--dir", self.dir, "--threads", BUILD_THREADS)
        seconds = {name: built[f"{name}_seconds"] for name in ("load", "train", "write")}
        searched = self.search(vectors.measuring, 10, {"recall": 0.95}, "single")
        return {"seconds": round(sum(seconds.values()), 3), "steps": seconds, "lists": built["nlist"], "bytes_per_vector": round(searched["bytes_per_vector"], 1), "disk_bytes_per_vector": round(built["disk_bytes"] / built["vectors"], 1)}

    def ladders(self, k):
        return [[{"recall": recall} for recall in (0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)]]

    def search(self, queries, k, setting, mode, *more, passes=1, truth=False):
        options = [word for name, value in setting.items() for word in (f"--{name}", value)]
        options += ["--batch", len(queries.rows)] if mode == "batch" else []
        options += ["--truth-from", self.vectors.file] if truth else []
        return self.run("search", "--dir", self.dir, "--queries", queries.file(passes), "--k", k, "--threads", 1, *options, *more)

    def recall(self, queries, k, setting, mode):
        key = (queries.half, k, json.dumps(setting))
        if key not in self.known:
            self.known[key] = self.search(queries, k, setting, "single", truth=True)
        return round(self.known[key]["recall"], 4)

    def speed(self, queries, k, setting, mode, seconds=BLOCK):
        # Queries cost tens of microseconds: so many passes fill the block.
        guess = self.known.get((queries.half, k, json.dumps(setting)), {}).get("qps", 10_000)
        passes = 2 ** max(0, round(np.log2(max(1.0, guess * seconds / len(queries.rows)))))
        return self.search(queries, k, setting, mode, passes=passes)["qps"]


class Faiss(Peer):
    """One IVF index of Faiss, named as its factory names it."""

    family = "faiss"
    modes = ("single", "batch")

    def __init__(self, factory):
        import faiss

        self.faiss, self.name = faiss, f"faiss {factory}"
        self.factory = factory
        self.refines = "Refine" in factory or "RFlat" in factory

    def build(self, vectors):
        faiss = self.faiss
        faiss.omp_set_num_threads(BUILD_THREADS)
        metric = faiss.METRIC_INNER_PRODUCT if vectors.metric == "cosine" else faiss.METRIC_L2
        self.index = faiss.index_factory(vectors.dims, self.factory, metric)
        path = vectors.folder / "faiss.index"
        began = time.perf_counter()
        self.index.train(vectors.base)
        self.index.add(vectors.base)
        faiss.write_index(self.index, str(path))
        seconds = time.perf_counter() - began
        size = path.stat().st_size
        path.unlink()
        faiss.omp_set_num_threads(1)
        self.lists = faiss.extract_index_ivf(self.index)
        return {"seconds": round(seconds, 3), "bytes_per_vector": round(size / len(vectors.base), 1)}

    def ladders(self, k):
        probes = [n for n in (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512) if n <= self.lists.nlist]
        factors = ((2, 4, 8, 16, 32) if k == 10 else (1.5, 2, 4, 8)) if self.refines else (None,)
        return [[{"nprobe": nprobe} | ({"k_factor": factor} if factor else {}) for nprobe in probes] for factor in factors]

    def ask(self, rows, k, setting, mode):
        self.lists.nprobe = setting["nprobe"]
        if self.refines:
            self.index.k_factor = setting["k_factor"]
        ids, values = np.empty((len(rows), k), np.int64), np.empty((len(rows), k), np.float32)
        if mode == "batch":
            began = time.perf_counter()
            self.index.search(rows, k, D=values, I=ids)
            return ids, time.perf_counter() - began
        # Past the checks of the Python wrapper: they cost as much as a part of the search.
        pointer = self.faiss.swig_ptr
        calls = [(pointer(rows[at]), pointer(values[at]), pointer(ids[at])) for at in range(len(rows))]
        search = self.index.search_c
        began = time.perf_counter()
        for row, value, hits in calls:
            search(1, row, k, value, hits)
        return ids, time.perf_counter() - began


class Hnswlib(Peer):
    """hnswlib, M 16 and efConstruction 200. It searches a batch one query after the other, so that one call is the kindest way to ask."""

    name = family = "hnswlib"

    def build(self, vectors):
        import hnswlib

        self.index = hnswlib.Index("ip" if vectors.metric == "cosine" else "l2", vectors.dims)
        self.index.init_index(len(vectors.base), M=16, ef_construction=200)
        path = vectors.folder / "hnswlib.index"
        began = time.perf_counter()
        self.index.add_items(vectors.base, num_threads=BUILD_THREADS)
        self.index.save_index(str(path))
        seconds = time.perf_counter() - began
        size = path.stat().st_size
        path.unlink()
        return {"seconds": round(seconds, 3), "bytes_per_vector": round(size / len(vectors.base), 1)}

    def ladders(self, k):
        return [[{"ef": max(k, ef)} for ef in (10, 15, 20, 30, 40, 60, 80, 100, 130, 160, 200, 260, 320, 400, 520, 700, 1000) if ef >= k]]

    def ask(self, rows, k, setting, mode, **more):
        self.index.set_ef(setting["ef"])
        began = time.perf_counter()
        ids, _ = self.index.knn_query(rows, k=k, num_threads=1, **more)
        return ids.astype(np.int64), time.perf_counter() - began


class Usearch(Peer):
    """USearch with the same connectivity and build effort as hnswlib."""

    family = "usearch"

    def __init__(self, dtype):
        import usearch.index

        self.library, self.dtype, self.name = usearch.index, dtype, f"usearch {dtype}"

    def build(self, vectors):
        metric = "ip" if vectors.metric == "cosine" else "l2sq"
        self.index = self.library.Index(ndim=vectors.dims, metric=metric, dtype=self.dtype, connectivity=16, expansion_add=200)
        path = vectors.folder / "usearch.index"
        began = time.perf_counter()
        self.index.add(np.arange(len(vectors.base)), vectors.base, threads=BUILD_THREADS)
        self.index.save(str(path))
        seconds = time.perf_counter() - began
        size = path.stat().st_size
        path.unlink()
        return {"seconds": round(seconds, 3), "bytes_per_vector": round(size / len(vectors.base), 1)}

    def ladders(self, k):
        return [[{"expansion": ef} for ef in (10, 15, 20, 30, 40, 60, 80, 100, 130, 160, 200, 260, 320, 400, 520, 700, 1000) if ef >= k]]

    def ask(self, rows, k, setting, mode):
        self.index.expansion_search = setting["expansion"]
        began = time.perf_counter()
        ids = self.index.search(rows, k, threads=1).keys
        return np.asarray(ids).astype(np.int64), time.perf_counter() - began


class Scann(Peer):
    """ScaNN as its guide advises: a tree, anisotropic 4-bit codes of two dimensions, exact reordering."""

    name = family = "scann"
    modes = ("single", "batch")

    def build(self, vectors):
        import scann

        self.leaves = 2 ** round(np.log2(len(vectors.base) / 150))
        distance = "dot_product" if vectors.metric == "cosine" else "squared_l2"
        threshold = 0.2 if vectors.metric == "cosine" else float("nan")
        maker = scann.scann_ops_pybind.builder(vectors.base, 10, distance).set_n_training_threads(BUILD_THREADS)
        maker = maker.tree(num_leaves=self.leaves, num_leaves_to_search=64, training_sample_size=len(vectors.base))
        began = time.perf_counter()
        self.index = maker.score_ah(2, anisotropic_quantization_threshold=threshold).reorder(100).build()
        seconds = time.perf_counter() - began
        return {"seconds": round(seconds, 3), "not_written_to_disk": True}

    def ladders(self, k):
        leaves = [n for n in (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384) if n <= self.leaves]
        return [[{"leaves": n, "reorder": reorder} for n in leaves] for reorder in ((20, 40, 80, 160, 320) if k == 10 else (150, 200, 400, 800))]

    def ask(self, rows, k, setting, mode):
        options = {"leaves_to_search": setting["leaves"], "pre_reorder_num_neighbors": setting["reorder"]}
        began = time.perf_counter()
        if mode == "batch":
            ids = self.index.search_batched(rows, final_num_neighbors=k, **options)[0]
        else:
            search = self.index.search
            ids = [search(row, final_num_neighbors=k, **options)[0] for row in rows]
        seconds = time.perf_counter() - began
        return np.array(ids).astype(np.int64), seconds
