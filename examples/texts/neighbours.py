#!/usr/bin/env python3
"""Shows, for a few sentences, the ones that mean nearly the same: largest cosine of the vectors that Floe wrote.

    $(scripts/python-env) examples/texts/neighbours.py out/texts
"""

import sys

import numpy as np
import pyarrow.parquet as pq

CLOSEST = 3
ASKED = [
    "Call all hands to see the white whale, and mark the spot, and lower the boats.",
    "In length, the Sperm Whale's skeleton at Tranque measured seventy-two feet",
]


def main() -> None:
    table = pq.read_table(sys.argv[1], columns=["id", "chapter", "sentence", "embedding"]).sort_by("id")
    vectors = np.stack(table["embedding"].to_numpy())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sentences, chapters = table["sentence"].to_pylist(), table["chapter"].to_pylist()
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} numbers")
    for asked in ASKED:
        row = sentences.index(asked)
        cosines = vectors @ vectors[row]
        cosines[row] = -1
        print(f"\n{asked}  ({chapters[row]})")
        for place in np.argsort(-cosines)[:CLOSEST]:
            print(f"  {cosines[place]:.2f}  {sentences[place]}  ({chapters[place]})")


if __name__ == "__main__":
    main()
