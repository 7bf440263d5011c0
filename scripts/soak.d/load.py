"""Clients of all kinds, on threads of their own, until they are told to stop."""

import contextlib
import json
import random
import threading
import time

from web import Web

INDEX = "soak"
DIMS = 48
BULK = 50
# A refused or broken request is counted; so many in a row are a failure of their own.
REFUSED_IN_A_ROW = 50


class Load:
    """Writers can be paused together, so that both sides can be compared at rest."""

    def __init__(self, through, direct, options):
        self.through, self.direct, self.options = through, direct, options
        self.writes = self.searches = self.refused = 0
        self.failures = []
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.may_write = threading.Event()
        self.may_write.set()
        self.writing = [threading.Lock() for _ in range(4)]
        clients = [(self.bulks, self.writing[0]), (self.singles, self.writing[1]), (self.past, self.writing[2]), (self.life, self.writing[3])]
        clients += [(self.search, None) for _ in range(options.searchers)] + [(self.refresh, None)]
        self.threads = [threading.Thread(target=self.run, args=(number, *client)) for number, client in enumerate(clients)]

    def fill(self):
        """Makes the index and gives it its documents."""
        vector = {"type": "dense_vector", "dims": DIMS, "similarity": "cosine", "index_options": {"type": "ivf"}}
        settings = {"number_of_shards": 2, "number_of_replicas": 0, "refresh_interval": "1s"}
        web = Web(self.through)
        web.expect("PUT", f"/{INDEX}", {"settings": settings, "mappings": {"properties": {"v": vector, "n": {"type": "long"}}}})
        draw = random.Random(1)
        for start in range(0, self.options.documents, 500):
            lines = [self.index_lines(draw, number) for number in range(start, min(start + 500, self.options.documents))]
            web.expect("POST", f"/{INDEX}/_bulk", "".join(lines).encode(), kind="application/x-ndjson")
        web.expect("POST", f"/{INDEX}/_refresh")

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        self.may_write.set()
        for thread in self.threads:
            thread.join()

    @contextlib.contextmanager
    def at_rest(self):
        """No writer is at work inside."""
        self.may_write.clear()
        try:
            with contextlib.ExitStack() as stack:
                for lock in self.writing:
                    stack.enter_context(lock)
                yield
        finally:
            self.may_write.set()

    def run(self, number, client, lock):
        draw, web, refused = random.Random(number), {}, 0
        web["through"], web["direct"] = Web(self.through), Web(self.direct)
        while not self.stopped.is_set():
            self.may_write.wait()
            try:
                with lock or contextlib.nullcontext():
                    wait = client(draw, web)
                refused = 0
            except (OSError, RuntimeError) as error:
                refused, wait = refused + 1, 0.2
                with self.lock:
                    self.refused += 1
                    if refused == REFUSED_IN_A_ROW:
                        self.failures.append(f"{client.__name__}: {refused} refused in a row, the last: {error}")
            self.stopped.wait(wait)

    def wrote(self, count):
        with self.lock:
            self.writes += count

    def vector(self, draw):
        centre = random.Random(draw.randrange(40))
        return [round(centre.gauss(0, 1) + draw.gauss(0, 0.3), 4) for _ in range(DIMS)]

    def index_lines(self, draw, number):
        source = {"v": self.vector(draw), "n": draw.randrange(1 << 30)}
        return json.dumps({"index": {"_id": str(number)}}) + "\n" + json.dumps(source) + "\n"

    def bulks(self, draw, web):
        """Mostly new vectors, some deletions, some parts; what is deleted comes back later."""
        lines = []
        for _ in range(BULK):
            number, kind = draw.randrange(self.options.documents), draw.random()
            if kind < 0.7:
                lines.append(self.index_lines(draw, number))
            elif kind < 0.8:
                lines.append(json.dumps({"delete": {"_id": str(number)}}) + "\n")
            else:
                part = {"doc": {"n": draw.randrange(1 << 30)}}
                lines.append(json.dumps({"update": {"_id": str(number)}}) + "\n" + json.dumps(part) + "\n")
        refresh = draw.choice(["", "", "", "?refresh=true", "?refresh=wait_for"])
        began = time.monotonic()
        web["through"].expect("POST", f"/{INDEX}/_bulk{refresh}", "".join(lines).encode(), kind="application/x-ndjson")
        self.wrote(BULK)
        return max(0.0, BULK / self.options.rate - (time.monotonic() - began))

    def singles(self, draw, web):
        number = draw.randrange(self.options.documents)
        web["through"].expect("PUT", f"/{INDEX}/_doc/{number}?refresh=wait_for", {"v": self.vector(draw), "n": 1})
        self.wrote(1)
        return 0.1

    def past(self, draw, web):
        """As another node's clients do."""
        lines = [self.index_lines(draw, draw.randrange(self.options.documents)) for _ in range(10)]
        web["direct"].expect("POST", f"/{INDEX}/_bulk", "".join(lines).encode(), kind="application/x-ndjson")
        self.wrote(10)
        return 10 / (0.1 * self.options.rate)

    def life(self, draw, web):
        """A small index comes, is written to and searched, and goes."""
        name = f"soak-{draw.randrange(1 << 40):x}"
        vector = {"type": "dense_vector", "dims": 4, "similarity": "l2_norm"}
        web["through"].expect("PUT", f"/{name}", {"settings": {"number_of_replicas": 0}, "mappings": {"properties": {"v": vector}}})
        try:
            web["through"].expect("PUT", f"/{name}/_doc/1?refresh=true", {"v": [1, 2, 3, 4]})
            web["through"].expect("POST", f"/{name}/_search", {"knn": {"field": "v", "query_vector": [1, 2, 3, 4], "k": 1, "num_candidates": 10}})
        finally:
            web["through"].expect("DELETE", f"/{name}")
        return 3

    def search(self, draw, web):
        knn = {"field": "v", "query_vector": self.vector(draw), "k": 10, "num_candidates": 50}
        source = draw.choice([False, ["n"]])
        found = web["through"].expect("POST", f"/{INDEX}/_search", {"knn": knn, "size": 10, "_source": source})
        with self.lock:
            self.searches += 1
            if len(found["hits"]["hits"]) != 10:
                self.failures.append(f"a search for 10 found {len(found['hits']['hits'])}")
        return 0.01

    def refresh(self, draw, web):
        web[draw.choice(["through", "direct"])].expect("POST", f"/{INDEX}/_refresh")
        return 2
