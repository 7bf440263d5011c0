"""What the parts share: an index with vectors, tenants told by a header, and files of requests in their names."""

import dataclasses
import itertools
import json

import peers
from client import write_requests
from setting import Bench

BASE = 20_000
HEADER = "x-tenant-id"


@dataclasses.dataclass
class World(Bench):
    """Servers, a load generator and one index."""

    def __post_init__(self):
        self.rounds = 2 if self.quick else self.rounds
        self.seconds = 1.0 if self.quick else 4.0
        self.numbers = itertools.count()

    def config(self, tenants):
        """A configuration file with these tenants: name → limits by class."""
        lines = ['tenant_header_from = "127.0.0.1"']
        for name, classes in tenants.items():
            lines += [f"[tenants.{name}]", f'headers = ["{name}"]']
            for kind, limits in classes.items():
                lines += [f"[tenants.{name}.limits.{kind}]", *(f"{key} = {value}" for key, value in limits.items())]
        path = self.servers.folder / f"tenants-{next(self.numbers)}.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def outrigger(self, name, tenants, *options):
        return self.servers.outrigger(name, "--config", self.config(tenants), *options)

    def peer(self, outrigger):
        """The index, filled and trained, behind this process."""
        peer = peers.behind(outrigger)
        self.loaded(peer)
        return peer

    def knn(self, index):
        return write_requests(self.servers.folder / "knn.requests", self.dataset.search_requests(index, None, False))

    def writes(self, index):
        """Bulk requests that write the same documents again and again."""
        return self.bulks(index, range(5_000), first_id=1_000_000, per_request=50)

    def small(self, outrigger):
        """An index that answers at once: what is left is the door. Returns a file of searches."""
        mapping = {"properties": {"v": {"type": "dense_vector", "dims": 4, "similarity": "l2_norm", "index_options": {"type": "ivf"}}}}
        outrigger.web.send("DELETE", "/bench-small")
        outrigger.web.expect("PUT", "/bench-small", {"settings": {"number_of_shards": 1, "number_of_replicas": 0}, "mappings": mapping})
        lines = "".join(f'{{"index":{{"_id":"{n}"}}}}\n{{"v":[{n},{n % 7},{n % 11},1]}}\n' for n in range(200))
        outrigger.web.expect("POST", "/bench-small/_bulk?refresh=true", lines.encode(), kind="application/x-ndjson")
        body = {"knn": {"field": "v", "query_vector": [1, 2, 3, 1], "k": 1}, "_source": False}
        return write_requests(self.servers.folder / "small.requests", [("POST", "/bench-small/_search", json.dumps(body).encode())])


def header(tenant):
    return ["--header", f"{HEADER}:{tenant}"]


def per_second(rate, burst=None):
    return {"requests_per_second": rate, "burst": burst or max(1, rate // 10)}


def generous():
    """Limits that nobody reaches: what they cost is measured."""
    return {kind: per_second(10_000_000) for kind in ("search", "knn", "bulk", "other")}
