"""What every part works with: the servers, the load generator, the vectors."""

import dataclasses

import dataset as datasets
from client import write_requests
from writer import PER_REQUEST


@dataclasses.dataclass
class Bench:
    """One run."""

    servers: object
    client: object
    dataset: datasets.Dataset
    quick: bool
    rounds: int

    def watch(self, outrigger):
        """From now on processor time is told of these two."""
        self.client.processes = {"elasticsearch": self.servers.es_pid, "outrigger": outrigger.pid}

    def loaded(self, peer, lists=True):
        """Fills the index of a peer with the whole set, and merges it where the peer needs that."""
        peer.create(self.dataset)
        self.client.once(peer.server, self.dataset.bulk_file(peer.index, self.servers.folder), 4, "application/x-ndjson")
        peer.web.expect("POST", f"/{peer.index}/_refresh")
        peer.wait_until_searchable(self.dataset)
        if not peer.outrigger:
            self.servers.es.expect("POST", f"/{peer.index}/_forcemerge?max_num_segments=1")
        elif lists:
            peer.wait_for_lists()

    def lines(self, numbers, first_id):
        """Documents of the set under new ids, in the lines of a bulk request."""
        set_ = self.dataset
        return "".join(f'{{"index":{{"_id":"{first_id + number}"}}}}\n{{{set_.document(number)},"v":{set_.vector(set_.base[number])}}}\n' for number in numbers).encode()

    def bulks(self, index, numbers, first_id, per_request=datasets.BULK):
        """A file of bulk requests for the load generator."""
        numbers = list(numbers)
        pieces = [numbers[first : first + per_request] for first in range(0, len(numbers), per_request)]
        return write_requests(self.servers.folder / "more.requests", (("POST", f"/{index}/_bulk", self.lines(piece, first_id)) for piece in pieces))

    def bodies(self, count):
        """Bulk bodies for a writer: documents of the set under ids of their own."""
        count = min(count, len(self.dataset.base))
        return [self.lines(range(first, first + PER_REQUEST), first_id=2_000_000) for first in range(0, count - PER_REQUEST + 1, PER_REQUEST)]

