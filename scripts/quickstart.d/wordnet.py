"""The example data: WordNet senses with embeddings (mappings/wordnet), and an exact search over them in plain Python."""

import ast
import gzip
import math
import operator
import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "mappings/wordnet"


class Glosses:
    """Row n of `vectors` belongs to `lines[n]`."""

    def __init__(self):
        with gzip.open(FOLDER / "glosses.txt.gz", "rt", encoding="utf-8") as file:
            self.lines = file.read().splitlines()
        raw = (FOLDER / "glosses-384.f16.npy").read_bytes()
        start = 10 + struct.unpack_from("<H", raw, 8)[0]
        count, self.dims = ast.literal_eval(raw[10:start].decode())["shape"]
        if count != len(self.lines):
            raise ValueError(f"{count} vectors for {len(self.lines)} lines")
        self.norms = None
        self.vectors = list(struct.iter_unpack(f"<{self.dims}e", raw[start:]))

    def words(self, row):
        return self.lines[row].split(": ", 1)[0].split(", ")

    def definition(self, row):
        return self.lines[row].split(": ", 1)[1]

    def row_of(self, word):
        """The first sense that has `word` as its first word, or None."""
        return next((row for row, line in enumerate(self.lines) if line.startswith((word + ",", word + ":"))), None)

    def vector_json(self, row):
        """A row as JSON; six digits tell all half-precision numbers apart."""
        return "[" + ",".join(map("{:.6g}".format, self.vectors[row])) + "]"

    def cosines(self, row):
        """The cosine of a row with every row, by brute force. Half precision leaves lengths a little off one, so they are divided out."""
        if self.norms is None:
            self.norms = [math.sqrt(sum(map(operator.mul, vector, vector))) for vector in self.vectors]
        query, length = self.vectors[row], self.norms[row]
        return [sum(map(operator.mul, query, vector)) / (norm * length) for vector, norm in zip(self.vectors, self.norms)]
