"""All documents of both sides, with scores and orders."""

import random
import time

from load import DIMS, INDEX
from web import Web

TOLERANCE = 1e-5


class Agreement:
    """Compares at rest, right after a refresh that was acknowledged through Outrigger."""

    def __init__(self, through, direct, documents):
        self.through, self.direct, self.documents = Web(through), Web(direct), documents
        self.rounds = self.agreed = self.compared = 0
        self.failures = []

    def check(self, work):
        draw = random.Random(self.rounds)
        query = [draw.gauss(0, 1) for _ in range(DIMS)]
        with work.at_rest():
            self.through.expect("POST", f"/{INDEX}/_refresh")
            own, ours = self.ask(self.through, query)
            _, theirs = self.ask(self.direct, query)
        self.rounds += 1
        self.compared += len(theirs)
        different = [key for key in ours.keys() | theirs.keys() if not equal(ours.get(key), theirs.get(key))]
        if different:
            first = different[0]
            self.failures.append(f"{len(different)} of {len(theirs)} documents differ, e.g. {first}: ours {ours.get(first)}, Elasticsearch's {theirs.get(first)}")
        elif not own:
            self.failures.append("the answer was Elasticsearch's own")
        else:
            self.agreed += 1

    def ask(self, web, query):
        size = self.documents + 500
        knn = {"field": "v", "query_vector": query, "k": size, "num_candidates": size}
        body = {"knn": knn, "size": size, "_source": False, "seq_no_primary_term": True}
        deadline = time.monotonic() + 30
        while True:
            status, headers, found = web.send("POST", f"/{INDEX}/_search", body, headers={"x-outrigger-explain": "true"})
            if status == 200:
                break
            # The brake may have no room for a scan that passes.
            if time.monotonic() > deadline:
                raise RuntimeError(f"{status}: {found}")
            time.sleep(0.1)
        hits = {hit["_id"]: (hit["_score"], hit["_primary_term"], hit["_seq_no"]) for hit in found["hits"]["hits"]}
        return headers.get("x-outrigger", "").startswith("answer"), hits


def equal(ours, theirs):
    if ours is None or theirs is None:
        return False
    return abs(ours[0] - theirs[0]) <= TOLERANCE and ours[1:] == theirs[1:]
