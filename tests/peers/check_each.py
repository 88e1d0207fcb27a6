#!/usr/bin/env python3
"""Checks one output folder after another against the same input, as check_passthrough.py does, in one process.

    check_each.py --input DIR [--key row_id]

Reads a folder a line from stdin and answers each with a line of JSON at once, so that a loop of hundreds of runs pays
for Python's start only once.
"""

import argparse
import json
import sys
from pathlib import Path

from check_passthrough import check


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--key", default="row_id")
    given = parser.parse_args()
    for line in sys.stdin:
        report = check(given.input, Path(line.rstrip("\n")), given.key)
        print(json.dumps(report, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
