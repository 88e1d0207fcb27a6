#!/usr/bin/env python3
"""Checks that an output folder holds the input: every row exactly once, every column with its type and values.

    check_passthrough.py --input DIR --output DIR [--key row_id] [--reader pyarrow|duckdb] [--no-marker]

Columns that the job added are let through. Prints one line of JSON, {rows, columns, files, ok, problems};
exits with 1 when anything is wrong, `_SUCCESS` missing included (unless --no-marker).
"""

import argparse
import json
import sys
from pathlib import Path

from tables import READERS, Folder, Match


def check(source: Path, output: Path, key: str = "row_id", reader: str = "pyarrow", marker: bool = True) -> dict:
    folder = Folder(output, reader)
    match = Match(Folder(source, reader), folder, key, marker)
    if match.rows_agree:
        match.compare_columns(added=None)
    return {
        "rows": match.rows,
        "columns": len(match.source.names()),
        "files": len(folder.files),
        "ok": not match.problems,
        "problems": match.problems,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--key", default="row_id")
    parser.add_argument("--reader", choices=READERS, default="pyarrow")
    parser.add_argument("--no-marker", action="store_true")
    given = parser.parse_args()
    report = check(given.input, given.output, given.key, given.reader, not given.no_marker)
    print(json.dumps(report, ensure_ascii=False))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
