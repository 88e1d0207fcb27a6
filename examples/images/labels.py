#!/usr/bin/env python3
"""Shows the labels that Floe wrote for each photo, and holds them against Pillow and ONNX Runtime in Python.

    $(scripts/python-env) examples/images/labels.py out/images out/models/efficientnet-lite0
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
from make_model import HERE, pixels

SHOWN = 3


def main() -> None:
    rows = pq.read_table(sys.argv[1]).sort_by("id").to_pylist()
    session = onnxruntime.InferenceSession(Path(sys.argv[2]) / "efficientnet-lite0.onnx")
    furthest = 0.0
    for row in rows:
        told = [f"{label} {score:.0%}" for label, score in zip(row["labels"], row["scores"])]
        print(f"{row['path']:24} {', '.join(told[:SHOWN])}")
        labels, scores = session.run(["labels", "scores"], {"image": pixels(HERE / "data" / row["path"])[None]})
        assert row["labels"][0] == labels[0][0], f"Python says {labels[0][0]} of {row['path']}"
        furthest = max(furthest, float(np.abs(np.array(row["scores"]) - scores[0]).max()))
    print(f"\n{len(rows)} photos; scores are within {furthest:.4f} of those of Pillow and ONNX Runtime in Python")
    assert furthest < 0.03  # JPEG is decoded a little differently


if __name__ == "__main__":
    main()
