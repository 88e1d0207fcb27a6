#!/usr/bin/env python3
"""Checks that outputs of the echo model hold the rows of their inputs, in order, as pyarrow reads both.

    check_equal.py INPUT_FILE OUTPUT_DIR [INPUT_FILE OUTPUT_DIR ...]

NaN equals NaN. Prints one line of JSON, {compared, unreadable, problems}; exits with 1 when rows or types differ. An
input that pyarrow itself can't read is listed as unreadable: there is nothing to compare with.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ADDED = "row_hash"


def read(files: list[Path]) -> pa.Table:
    return pq.ParquetDataset([str(file) for file in files], partitioning=None).read()


def same(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    # As text where they differ, so that NaN equals NaN at any depth.
    return a.equals(b) or repr(a.to_pylist()) == repr(b.to_pylist())


def differences(source: pa.Table, output: pa.Table) -> list[str]:
    if output.num_rows != source.num_rows:
        return [f"{output.num_rows} rows instead of {source.num_rows}"]
    found = []
    for field in source.schema:
        if field.name not in output.column_names:
            found.append(f"column {field.name} is missing")
        elif output.schema.field(field.name).type != field.type:
            found.append(f"column {field.name} is {output.schema.field(field.name).type} instead of {field.type}")
        elif not same(source[field.name], output[field.name]):
            found.append(f"column {field.name} has other values")
    return found


def main() -> int:
    given = [Path(argument) for argument in sys.argv[1:]]
    problems, compared, unreadable = [], 0, []
    for source_file, folder in zip(given[::2], given[1::2], strict=True):
        try:
            source = read([source_file])
        except (pa.ArrowException, OSError):
            unreadable.append(source_file.name)
            continue
        files = sorted(folder.glob("*.parquet"))
        if not files and source.num_rows == 0:
            compared += 1
            continue
        output = read(files).drop_columns([ADDED])
        compared += 1
        problems += [f"{source_file.name}: {difference}" for difference in differences(source, output)]
    print(json.dumps({"compared": compared, "unreadable": unreadable, "problems": problems}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
