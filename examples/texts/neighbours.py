#!/usr/bin/env python3
"""Shows, for a few sentences, the ones that mean nearly the same: largest cosine of the vectors that Floe wrote.

    $(scripts/python-env) examples/texts/neighbours.py out/texts
"""

import sys

import numpy as np
import pyarrow.parquet as pq

CLOSEST = 3
ASKED = [
    "Depend upon it, landlord, that harpooneer is a dangerous man.",
    "I've been several voyages in the merchant service, and I think that—",
    "In length, the common sperm whale-line measures something over two hundred fathoms.",
    "Ginger! is ginger the sort of fuel you use, Dough-boy, to kindle a fire in this shivering cannibal?",
    "Away! let us away!—this instant let me alter the course!",
]


def main() -> None:
    table = pq.read_table(sys.argv[1], columns=["id", "chapter", "sentence", "embedding"]).sort_by("id")
    vectors = np.stack(table["embedding"].to_numpy())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sentences, chapters = table["sentence"].to_pylist(), table["chapter"].to_pylist()
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} numbers")
    for asked in ASKED:
        row = next(row for row, sentence in enumerate(sentences) if asked in sentence)
        cosines = vectors @ vectors[row]
        cosines[row] = -1
        print(f"\n{asked}  ({chapters[row]})")
        for place in np.argsort(-cosines)[:CLOSEST]:
            print(f"  {cosines[place]:.2f}  {sentences[place]}  ({chapters[place]})")


if __name__ == "__main__":
    main()
