"""Recall of filtered searches: against the exact neighbours among the documents that the filter keeps."""

import numpy as np

from dataset import JUDGED, K

SLACK = 1e-6


def recall(kind, corpus, hits):
    """Recall@K of the first JUDGED queries. A document as near as the K-th true neighbour counts; one that the filter drops never does."""
    if kind.judged is None:
        return corpus.recall(hits)
    attribute, values = kind.judged
    of_document = np.array(getattr(corpus, attribute))
    found = 0
    for first in range(0, JUDGED, 100):
        scores = corpus.similarities(corpus.queries[first : first + 100])
        for offset, (row, ids) in enumerate(zip(scores, hits[first : first + 100])):
            keeps = of_document == (first + offset) % values
            floor = np.partition(row[keeps], -K)[-K]
            numbers = [int(number) for number in set(ids)]
            found += min(K, int(((row[numbers] >= floor - SLACK) & keeps[numbers]).sum()))
    return round(found / (K * JUDGED), 4)
