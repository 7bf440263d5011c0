"""The peers of a vector bench: each is an index of one type, behind one port."""

import dataclasses
import time

import machine
from stack import Stop

ELASTICSEARCH = ("int8_hnsw", "bbq_hnsw", "bbq_disk")
ALL = (*ELASTICSEARCH, "outrigger")
SEARCHABLE_WITHIN = 300
LISTS_WITHIN = 600
EXACT_FOR_GOOD_AFTER = 20


@dataclasses.dataclass
class Peer:
    """An index type and where it is reached."""

    name: str
    server: str
    web: object
    outrigger: object = None

    @property
    def index(self):
        return "bench-" + self.name.replace("_", "-")

    def create(self, dataset):
        kind = "ivf" if self.outrigger else self.name
        vector = {"type": "dense_vector", "dims": dataset.dims, "similarity": dataset.similarity, "index_options": {"type": kind}}
        body = {
            # All else as Elasticsearch sets it, the refresh interval included: so clients create their indexes.
            "settings": {"number_of_shards": 1, "number_of_replicas": 0},
            "mappings": {"properties": dataset.properties | {"v": vector}},
        }
        self.drop()
        self.web.expect("PUT", f"/{self.index}", body)

    def drop(self):
        self.web.send("DELETE", f"/{self.index}")

    def segments(self, es):
        shards = es.expect("GET", f"/{self.index}/_segments")["indices"][self.index]["shards"]
        return sum(len(copy["segments"]) for copies in shards.values() for copy in copies)

    def shard(self):
        """Outrigger's report of the one shard."""
        stats = self.outrigger.stats(self.index)
        return stats and first_dict_with(stats, "behind_operations", "build")

    def wait_until_searchable(self, dataset):
        """A search finds the last document; for Outrigger also: nothing is behind."""
        last = len(dataset.base) - 1
        body = f'{{"knn":{{"field":"v","query_vector":{dataset.vector(dataset.base[last])},"k":50,"num_candidates":200}},"size":50,"_source":false}}'.encode()
        deadline = time.monotonic() + SEARCHABLE_WITHIN
        while True:
            hits = self.web.expect("POST", f"/{self.index}/_search", body)["hits"]["hits"]
            if any(hit["_id"] == str(last) for hit in hits) and self.caught_up(len(dataset.base)):
                return
            if time.monotonic() > deadline:
                raise Stop(f"{self.name}: the last document was not found within {SEARCHABLE_WITHIN} s; {self.outrigger and self.shard()}")
            time.sleep(0.02)

    def caught_up(self, total):
        if not self.outrigger:
            return True
        shard = self.shard()
        return bool(shard) and shard["state"] == "ready" and shard["docs"] == total and not shard["behind_operations"]

    def wait_for_lists(self):
        """Until the index is trained. A set below the crossover to lists stays exact for good, and is not waited for long."""
        deadline = time.monotonic() + LISTS_WITHIN
        exact_until = time.monotonic() + EXACT_FOR_GOOD_AFTER
        while (shard := self.shard())["build"] != "lists":
            now = time.monotonic()
            if shard["build"] != "exact":
                exact_until = now + EXACT_FOR_GOOD_AFTER
            if now > min(deadline, exact_until):
                break
            time.sleep(0.1)
        return shard

    def usage(self, servers):
        """Memory and disk as they are now."""
        store = servers.es.expect("GET", f"/{self.index}/_stats/store,segments")["_all"]["primaries"]["store"]["size_in_bytes"]
        nodes = servers.es.expect("GET", "/_nodes/_local/stats/jvm")["nodes"]
        heap = next(iter(nodes.values()))["jvm"]["mem"]["heap_used_in_bytes"]
        usage = {"elasticsearch_store": store, "elasticsearch_heap_used": heap, "elasticsearch": machine.resident_bytes(servers.es_pid)}
        if self.outrigger:
            usage["outrigger"] = self.outrigger.usage()
        return usage


def behind(outrigger):
    """The one that Outrigger serves."""
    return Peer("outrigger", outrigger.server, outrigger.web, outrigger)


def all_of(servers, outrigger):
    """Every peer; they share one Elasticsearch node."""
    peers = [Peer(name, servers.elasticsearch, servers.es) for name in ELASTICSEARCH]
    return [*peers, behind(outrigger)]


def first_dict_with(value, *keys):
    """The first object inside `value` that has all `keys`."""
    if isinstance(value, dict):
        if all(key in value for key in keys):
            return value
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            if (found := first_dict_with(child, *keys)) is not None:
                return found
    return None
