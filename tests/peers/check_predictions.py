#!/usr/bin/env python3
"""Checks Floe's output for a case against Python's onnxruntime on the same rows.

    check_predictions.py CASE|ALL --output DIR [--cases tests/fixtures/models/cases.json]

For one case DIR is the output folder, for ALL it holds one folder for each case, by its name. Rows are matched
by the case's key: each exactly once, every input column with its type and values, no column but those and the
case's outputs, and every prediction within the tolerance (absolute up to 1, relative above; integers, strings
and booleans exactly). A case that must be refused must have left neither Parquet nor `_SUCCESS`.
Prints one line of JSON for each case, {case, rows, max_abs_diff, ok, problems}; exits with 1 if any is not ok.

How outputs become columns: [n] and [n, 1] are plain columns, wider ones lists (of lists), ZipMap's maps a
MAP column; float16 becomes float32, every other type keeps its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from predict import predict
from tables import Folder, Match

CASES = Path(__file__).resolve().parent.parent / "fixtures/models/cases.json"

ARROW = {
    "float16": pa.float32(), "float": pa.float32(), "double": pa.float64(), "bool": pa.bool_(), "string": pa.string(),
    "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(),
}  # fmt: skip


class Prediction:
    """One output column beside what it should hold; collects problems and the largest difference."""

    def __init__(self, name: str, column: pa.ChunkedArray, tolerance: float) -> None:
        self.name, self.column, self.tolerance = name, column, tolerance
        self.problems: list[str] = []
        self.max_abs_diff = 0.0

    def problem(self, text: str) -> None:
        self.problems.append(f"output {self.name}: {text}")

    def compare(self, onnx_type: str, expected) -> None:
        if self.column.null_count:
            self.problem(f"{self.column.null_count} nulls, a model returns none")
        elif onnx_type.startswith("seq(map("):
            key, value = onnx_type.removeprefix("seq(map(").removesuffix("))").split(",")
            self.compare_maps(ARROW[key], ARROW[value.removeprefix("tensor(").rstrip(")")], expected)
        else:
            self.compare_tensor(ARROW[onnx_type.removeprefix("tensor(").removesuffix(")")], np.array(expected))

    def compare_tensor(self, element: pa.DataType, expected: np.ndarray) -> None:
        if expected.ndim == 2 and expected.shape[1] == 1:
            expected = expected[:, 0]
        found_type, depth = self.column.type, 0
        while pa.types.is_list(found_type) or pa.types.is_large_list(found_type) or pa.types.is_fixed_size_list(found_type):
            found_type, depth = found_type.value_type, depth + 1
        if found_type != element or depth != expected.ndim - 1:
            wanted = "list<" * (expected.ndim - 1) + str(element) + ">" * (expected.ndim - 1)
            self.problem(f"is of type {self.column.type}, should be {wanted}")
            return
        inner = self.column.combine_chunks()
        for _ in range(depth):
            inner = inner.flatten()
            if inner.null_count:  # numpy would make NaN or False of them
                self.problem("nulls inside its lists")
                return
        rows = self.column.to_pylist()
        try:
            found = np.array(rows, dtype=np.float32 if expected.dtype == np.float16 else expected.dtype)
        except ValueError as error:
            self.problem(f"rows of different length: {error}")
            return
        if found.shape != expected.shape:
            self.problem(f"is of shape {list(found.shape)}, should be {list(expected.shape)}")
        elif pa.types.is_floating(element):
            self.compare_floats(found.astype(np.float64), expected.astype(np.float64))
        elif not np.array_equal(found, expected):
            row = int(np.flatnonzero((found != expected).reshape(len(found), -1).any(axis=1))[0])
            self.problem(f"row {row} by key: {rows[row]!r}, should be {expected[row]!r}")

    def compare_floats(self, found: np.ndarray, expected: np.ndarray) -> None:
        both_nan = np.isnan(found) & np.isnan(expected)
        same = both_nan | (found == expected)  # also equal infinities, whose difference is no number
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(found - expected))
        difference = np.where(np.isnan(difference), np.inf, difference)
        self.max_abs_diff = float(max(self.max_abs_diff, difference.max(initial=0.0)))
        with np.errstate(invalid="ignore"):
            wrong = ~same & ~(difference <= self.tolerance * np.maximum(1.0, np.abs(expected)))
        if wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            self.problem(f"{wrong.sum()} values differ, first in row {row} by key: {found[row]}, should be {expected[row]}")

    def compare_maps(self, key: pa.DataType, value: pa.DataType, expected: list[dict]) -> None:
        found_type = self.column.type
        if not pa.types.is_map(found_type) or (found_type.key_type, found_type.item_type) != (key, value):
            self.problem(f"is of type {found_type}, should be map<{key}, {value}>")
            return
        found, wanted = [], []
        for row, (entries, answer) in enumerate(zip(self.column.to_pylist(), expected)):
            if len(dict(entries)) != len(entries) or dict(entries).keys() != answer.keys():
                self.problem(f"row {row} by key: keys {[k for k, _ in entries]}, should be {list(answer)}")
                return
            values = dict(entries)
            if None in values.values():
                self.problem(f"row {row} by key: a null in the map")
                return
            found.append([values[k] for k in answer])
            wanted.append(list(answer.values()))
        self.compare_floats(np.array(found, np.float64), np.array(wanted, np.float64))


def check_scored(case: dict, root: Path, output: Path) -> dict:
    match = Match(Folder(root / case["input"]), Folder(output), case["key"])
    max_abs_diff = 0.0
    if match.rows_agree:
        match.compare_columns(added=set(case["outputs"].values()))
        table = pa.table({name: match.input_column(name) for name in match.source.names()})
        for name, (onnx_type, expected) in predict(case, root / case["model_file"], table).items():
            column = case["outputs"][name]
            try:
                prediction = Prediction(column, match.output_column(column), case["tolerance"])
            except KeyError:
                match.problems.append(f"output {column}: no such column")
                continue
            except TypeError as error:
                match.problems.append(f"output {column}: {error}")
                continue
            prediction.compare(onnx_type, expected)
            match.problems.extend(prediction.problems)
            max_abs_diff = max(max_abs_diff, prediction.max_abs_diff)
    return report(case, match.rows, max_abs_diff, match.problems)


def check_refused(case: dict, output: Path) -> dict:
    left = Folder(output).files if output.exists() else []
    problems = [f"must be refused, but left {path.relative_to(output)}" for path in left]
    if (output / "_SUCCESS").exists():
        problems.append("must be refused, but left _SUCCESS")
    return report(case, 0, 0.0, problems)


def report(case: dict, rows: int, max_abs_diff: float, problems: list[str]) -> dict:
    difference = max_abs_diff if np.isfinite(max_abs_diff) else "infinite"
    return {"case": case["name"], "rows": rows, "max_abs_diff": difference, "ok": not problems, "problems": problems}


def check(case: dict, root: Path, output: Path) -> dict:
    """Compares one case; `root` is the folder that the case's paths start from."""
    return check_scored(case, root, output) if case["expect"] == "ok" else check_refused(case, output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="a case's name, or ALL")
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    cases = {case["name"]: case for case in json.loads(given.cases.read_text())}
    if given.case == "ALL":
        folders = {name: given.output / name for name in cases}
    elif given.case in cases:
        folders = {given.case: given.output}
    else:
        parser.error(f"no case {given.case!r} in {given.cases}; it has {', '.join(cases)}")
    reports = [check(cases[name], given.cases.parent, folder) for name, folder in folders.items()]
    for line in reports:
        print(json.dumps(line, ensure_ascii=False))
    return 0 if all(line["ok"] for line in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
