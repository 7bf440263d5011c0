"""Documents with something beside the vector: a text to match, keywords to filter by, and a `_source` of one kilobyte."""

import gzip
import json
import random

import dataset as datasets
from places import ROOT

SOURCE_BYTES = 1000
FILE_OF_TEXTS = {"mini": "minilm-queries.txt.gz", "wordnet": "glosses.txt.gz"}


class Corpus(datasets.Dataset):
    """The vectors of a set with the texts that they were made of."""

    properties = {
        "title": {"type": "keyword"},
        "text": {"type": "text"},
        "body": {"type": "text", "index": False},
        "tenth": {"type": "keyword"},
        "hundredth": {"type": "keyword"},
    }

    def __init__(self, plain, folder):
        self.__dict__ |= plain.__dict__
        self.kind = "corpus-"
        texts = read_texts(self.name, folder)
        self.sentences, self.questions = texts[: len(self.base)], texts[-len(self.queries) :]
        source = random.Random(5)
        # By chance, so that a value says nothing of where a vector lies.
        self.tenths = [source.randrange(10) for _ in self.sentences]
        self.hundredths = [source.randrange(100) for _ in self.sentences]

    def document(self, number):
        sentence = self.sentences[number]
        body = ""
        for step in range(1, 1000):
            if len(body) >= SOURCE_BYTES - len(sentence) - 150:
                break
            body += self.sentences[(number + step) % len(self.sentences)] + " "
        keywords = {"tenth": f"t{self.tenths[number]}", "hundredth": f"h{self.hundredths[number]}"}
        return json.dumps({"title": self.title(number), "text": sentence, "body": body} | keywords)[1:-1]


def read_texts(name, folder):
    path = folder / FILE_OF_TEXTS[name]
    if not path.exists():
        path = ROOT / "mappings/wordnet" / FILE_OF_TEXTS[name]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in lines]


def read(folder, limit):
    """The first set that has texts."""
    return Corpus(datasets.read(datasets.names(folder)[0], folder, limit), folder)
