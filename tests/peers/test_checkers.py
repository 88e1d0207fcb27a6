#!/usr/bin/env python3
"""Checks the checkers: right outputs must pass, and each kind of wrong one must be caught and named.

    $(scripts/python-env) tests/peers/test_checkers.py

A right output is made here from a case's input and Python's own predictions, in another order and in other
files than the input's. Each test then spoils one thing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import check_passthrough
import check_predictions
from check_predictions import ARROW, CASES
from predict import predict

ROOT = CASES.parent
BY_NAME = {case["name"]: case for case in json.loads(CASES.read_text())}


def input_table(case: dict) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted((ROOT / case["input"]).glob("*.parquet")))


def output_column(onnx_type: str, values) -> pa.Array:
    """A model's answer as the column that Floe should write; see check_predictions."""
    if onnx_type.startswith("seq(map("):
        key = ARROW[onnx_type.removeprefix("seq(map(").split(",")[0]]
        return pa.array([list(row.items()) for row in values], pa.map_(key, pa.float32()))
    values = np.array(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    wanted = ARROW[onnx_type.removeprefix("tensor(").removesuffix(")")]
    for _ in range(values.ndim - 1):
        wanted = pa.list_(wanted)
    return pa.array(values.tolist(), wanted)


def right_output(case: dict) -> pa.Table:
    """Input and predictions, last row first."""
    table = input_table(case)
    for name, (onnx_type, values) in predict(case, ROOT / case["model_file"], table).items():
        table = table.append_column(case["outputs"][name], output_column(onnx_type, values))
    return table.take(pa.array(range(table.num_rows - 1, -1, -1)))


def replaced(table: pa.Table, name: str, column) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def with_value(table: pa.Table, name: str, row: int, value) -> pa.Table:
    """The same table, of the same types, with one value changed."""
    column = table[name].to_pylist()
    assert column[row] != value, "the test would change nothing"
    column[row] = value
    return replaced(table, name, pa.array(column, table.schema.field(name).type))


class Checker(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.output = Path(temporary.name) / "out"
        self.output.mkdir()

    def write(self, table: pa.Table, marker: bool = True) -> None:
        """Three files, one in a folder, beside things that a checker must not read."""
        (self.output / "more").mkdir(exist_ok=True)
        (self.output / "_floe").mkdir(exist_ok=True)
        names = ["a.parquet", "more/b.parquet", "more/c.parquet"]
        for index, name in enumerate(names):
            pq.write_table(table.slice(index * 120, 120 if index < 2 else None), self.output / name)
        pq.write_table(pa.table({"other": [1]}), self.output / "_floe" / "state.parquet")
        pq.write_table(pa.table({"other": [1]}), self.output / "more" / "_half.parquet")
        if marker:
            (self.output / "_SUCCESS").write_text("{}")

    def predictions(self, name: str, table: pa.Table | None = None) -> dict:
        if table is not None:
            self.write(table)
        return check_predictions.check(BY_NAME[name], ROOT, self.output)

    def passthrough(self, table: pa.Table | None = None, reader: str = "pyarrow") -> dict:
        if table is not None:
            self.write(table)
        return check_passthrough.check(ROOT / "inputs/iris", self.output, reader=reader)

    def assert_caught(self, report: dict, *words: str) -> None:
        self.assertFalse(report["ok"], "the checker let it pass")
        text = " | ".join(report["problems"])
        for word in words:
            self.assertIn(word, text)


class RightOutputs(Checker):
    def test_the_right_output_of_every_scored_case_passes(self) -> None:
        scored = [case for case in BY_NAME.values() if case["expect"] == "ok"]
        self.assertGreater(len(scored), 20)
        for case in scored:
            with self.subTest(case["name"]):
                table = right_output(case)
                report = self.predictions(case["name"], table)
                self.assertEqual(report["problems"], [])
                self.assertEqual(report["rows"], table.num_rows)
                self.assertLessEqual(report["max_abs_diff"], case["tolerance"])

    def test_a_prediction_within_the_tolerance_passes_and_is_reported(self) -> None:
        table = right_output(BY_NAME["regressor_matrix"])
        nearly = pc.add(table["variable"], pa.scalar(2e-6, pa.float32()))
        report = self.predictions("regressor_matrix", replaced(table, "variable", nearly))
        self.assertTrue(report["ok"], report)
        self.assertGreater(report["max_abs_diff"], 0)

    def test_both_readers_pass_a_right_output(self) -> None:
        self.write(right_output(BY_NAME["regressor_matrix"]))
        for reader in ("pyarrow", "duckdb"):
            report = self.passthrough(reader=reader)
            self.assertEqual((report["problems"], report["rows"], report["files"]), ([], 301, 3), reader)

    def test_partition_columns_are_read_from_the_path(self) -> None:
        table = right_output(BY_NAME["pipeline_columns"])
        for value in pc.unique(table["city"]).to_pylist():
            folder = self.output / f"city={value.replace('ó', '%C3%B3')}"
            folder.mkdir()
            part = table.filter(pc.equal(table["city"], value)).drop_columns("city")
            pq.write_table(part, folder / "part.parquet")
        (self.output / "_SUCCESS").write_text("{}")
        self.assertEqual(self.predictions("pipeline_columns")["problems"], [])
        (self.output / "city=Athens").rename(self.output / "city=Sparta")
        self.assert_caught(self.predictions("pipeline_columns"), "column city", "Athens in, Sparta out")

    def test_a_refused_case_that_left_nothing_passes(self) -> None:
        self.assertTrue(self.predictions("truncated")["ok"])


class WrongRows(Checker):
    def setUp(self) -> None:
        super().setUp()
        self.table = right_output(BY_NAME["regressor_matrix"])
        self.key = self.table["row_id"][7].as_py()

    def both(self, table: pa.Table, *words: str) -> None:
        """Every checker and reader catches it."""
        self.assert_caught(self.predictions("regressor_matrix", table), *words)
        self.assert_caught(self.passthrough(), *words)
        self.assert_caught(self.passthrough(reader="duckdb"), *words)

    def test_a_lost_row(self) -> None:
        self.both(pa.concat_tables([self.table[:7], self.table[8:]]), "1 rows lost", str(self.key))

    def test_a_doubled_row(self) -> None:
        self.both(pa.concat_tables([self.table, self.table[7:8]]), "1 rows there more than once", str(self.key))

    def test_a_row_in_the_place_of_another(self) -> None:
        self.both(pa.concat_tables([self.table[:7], self.table[8:], self.table[9:10]]), "lost", "more than once")

    def test_a_row_that_was_not_in_the_input(self) -> None:
        self.both(with_value(self.table, "row_id", 7, 5), "1 rows not in the input: row_id 5", "lost")

    def test_a_null_key(self) -> None:
        self.both(with_value(self.table, "row_id", 7, None), "lost")

    def test_no_rows_at_all(self) -> None:
        self.both(self.table[:0], "301 rows lost")

    def test_no_files(self) -> None:
        (self.output / "_SUCCESS").write_text("{}")
        self.assert_caught(self.predictions("regressor_matrix"), "no Parquet files")

    def test_no_marker(self) -> None:
        self.write(self.table, marker=False)
        self.assert_caught(self.predictions("regressor_matrix"), "no _SUCCESS")
        self.assert_caught(self.passthrough(), "no _SUCCESS")


class WrongColumns(Checker):
    def setUp(self) -> None:
        super().setUp()
        self.table = right_output(BY_NAME["regressor_matrix"])

    def test_a_changed_value_in_a_column_of_each_kind(self) -> None:
        changed = {
            "sepal_length": 4.0, "comment": "other", "day": None, "price": 0, "colour": "mauve", "raw": b"", "ratio": 0.5,
            "place": {"lat": 0.5, "lon": 0.0, "tags": None}, "scores": [("free", 17)],
        }  # fmt: skip
        for name, value in changed.items():
            for reader in ("pyarrow", "duckdb"):
                with self.subTest(name, reader=reader):
                    report = self.passthrough(with_value(self.table, name, 200, value), reader)
                    self.assert_caught(report, f"column {name}, row_id {self.table['row_id'][200]}:")
                    self.assertEqual(len(report["problems"]), 1)

    def test_a_null_turned_into_nan_and_back(self) -> None:
        values = self.table["ratio"].to_pylist()
        null = values.index(None)
        nan = next(i for i, v in enumerate(values) if v is not None and v != v)
        for row, value in ((null, float("nan")), (nan, None)):
            self.assert_caught(self.passthrough(with_value(self.table, "ratio", row, value)), "column ratio")

    def test_a_lost_sign_of_zero(self) -> None:
        absolute = pc.abs(self.table["ratio"])
        self.assert_caught(self.passthrough(replaced(self.table, "ratio", absolute)), "column ratio", "-0.0 in, 0.0 out")

    def test_a_changed_type_of_each_kind(self) -> None:
        kinds = {
            "comment": pa.large_string(), "sepal_length": pa.float64(), "row_id": pa.int32(), "colour": pa.string(),
            "seen_at": pa.timestamp("us"), "local_time": pa.timestamp("ms"), "price": pa.decimal128(10, 2), "day": pa.string(),
        }  # fmt: skip
        for name, kind in kinds.items():
            with self.subTest(name):
                options = pc.CastOptions(kind, allow_time_truncate=True)
                table = replaced(self.table, name, self.table[name].cast(options=options))
                self.assert_caught(self.predictions("regressor_matrix", table), f"column {name}: ", f"{kind} out")

    def test_a_column_lost_added_and_doubled(self) -> None:
        self.assert_caught(self.passthrough(self.table.drop_columns("price")), "column price is missing")
        extra = self.table.append_column("extra", self.table["price"])
        self.assert_caught(self.predictions("regressor_matrix", extra), "column extra", "nobody asked")
        self.assertTrue(self.passthrough()["ok"], "the pass-through check does not know what a job adds")

    def test_files_of_different_columns(self) -> None:
        self.write(self.table)
        pq.write_table(self.table[:120].drop_columns("price"), self.output / "a.parquet")
        self.assert_caught(self.passthrough(), "has other columns")


class WrongPredictions(Checker):
    def caught(self, name: str, column: str, change, *words: str) -> None:
        table = right_output(BY_NAME[name])
        changed = replaced(table, column, change(table[column].combine_chunks()))
        self.assert_caught(self.predictions(name, changed), f"output {column}: ", *words)

    def changed_row(self, name: str, column: str, value, *words: str) -> None:
        table = right_output(BY_NAME[name])
        self.assert_caught(self.predictions(name, with_value(table, column, 31, value)), f"output {column}: ", *words)

    def test_one_number_too_far_off(self) -> None:
        self.changed_row("regressor_matrix", "variable", 3.25, "1 values differ", "3.25")

    def test_a_nan_an_infinity_and_a_null(self) -> None:
        self.changed_row("regressor_matrix", "variable", float("nan"), "1 values differ")
        self.changed_row("regressor_matrix", "variable", float("inf"), "1 values differ")
        self.changed_row("regressor_matrix", "variable", None, "1 nulls")

    def test_a_number_where_nan_should_be(self) -> None:
        table = right_output(BY_NAME["card_null_as_nan"])
        total = pc.if_else(pc.is_nan(table["total"]), pa.scalar(0, pa.float32()), table["total"])
        self.assert_caught(self.predictions("card_null_as_nan", replaced(table, "total", total)), "output total", "nan")

    def test_predictions_of_other_rows(self) -> None:
        table = right_output(BY_NAME["classifier_arrays"])
        shifted = pa.concat_arrays([table["label"].combine_chunks()[1:], table["label"].combine_chunks()[:1]])
        self.assert_caught(self.predictions("classifier_arrays", replaced(table, "label", shifted)), "output label")

    def test_a_wrong_label_string_and_boolean(self) -> None:
        self.changed_row("string_labels", "label", "rosa", "'rosa'")
        self.changed_row("many_outputs", "words", ["no", "maybe"], "maybe")
        self.changed_row("integer_inputs", "not_uint64", 1)
        self.changed_row("param_scalar", "above", [True, True, False, True])

    def test_a_wrong_type(self) -> None:
        self.caught("regressor_matrix", "variable", lambda c: c.cast(pa.float64()), "is of type double, should be float")
        self.caught("classifier_arrays", "label", lambda c: c.cast(pa.int32()), "is of type int32, should be int64")
        self.caught("float16", "doubled", lambda c: c.cast(pa.float16()), "is of type halffloat, should be float")
        self.caught("classifier_arrays", "probabilities", lambda c: c.cast(pa.list_(pa.float64())), "should be list<float>")

    def test_a_scalar_kept_as_a_list(self) -> None:
        listed = lambda c: pa.array([[v] for v in c.to_pylist()], pa.list_(pa.float32()))  # noqa: E731
        self.caught("regressor_matrix", "variable", listed, "should be float")

    def test_lists_of_the_wrong_length_or_with_nulls_inside(self) -> None:
        self.changed_row("wide_output", "embedding", [0.0, 0.0], "different length")
        self.changed_row("wide_output", "embedding", [0.0, 0.0, None, 0.0, 0.0], "nulls inside")
        cut = lambda c: pa.array([v[:4] for v in c.to_pylist()], c.type)  # noqa: E731
        self.caught("wide_output", "embedding", cut, "is of shape [301, 4], should be [301, 5]")

    def test_maps_with_a_wrong_key_value_or_type(self) -> None:
        name, column = "classifier_zipmap_int", "output_probability"
        self.changed_row(name, column, [(0, 0.2), (1, 0.2), (2, 0.6)], "values differ")
        self.changed_row(name, column, [(0, 0.2), (1, 0.2), (3, 0.6)], "keys [0, 1, 3]")
        self.changed_row(name, column, [(0, 0.2), (1, 0.2)], "keys [0, 1]")
        as_struct = lambda c: pa.array([str(v) for v in c.to_pylist()])  # noqa: E731
        self.caught(name, column, as_struct, "is of type string, should be map<int64, float>")

    def test_a_missing_output(self) -> None:
        table = right_output(BY_NAME["classifier_arrays"]).drop_columns("label")
        self.assert_caught(self.predictions("classifier_arrays", table), "output label: no such column")

    def test_a_refused_case_that_left_something(self) -> None:
        self.write(right_output(BY_NAME["regressor_matrix"]))
        self.assert_caught(self.predictions("truncated"), "left a.parquet", "left _SUCCESS")


class CommandLines(Checker):
    def call(self, script: str, *arguments) -> tuple[int, dict]:
        command = [sys.executable, Path(__file__).with_name(script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertTrue(done.stdout, done.stderr)
        return done.returncode, json.loads(done.stdout)

    def test_exit_code_and_json_of_both_commands(self) -> None:
        table = right_output(BY_NAME["regressor_matrix"])
        for rows, code in ((301, 0), (300, 1)):
            self.write(table[:rows])
            arguments = ["--input", ROOT / "inputs/iris", "--output", self.output]
            for result in (
                self.call("check_passthrough.py", *arguments),
                self.call("check_predictions.py", "regressor_matrix", "--output", self.output),
            ):
                self.assertEqual((result[0], result[1]["rows"], result[1]["ok"]), (code, rows, code == 0))

    def test_one_process_checks_one_output_after_another(self) -> None:
        self.write(right_output(BY_NAME["regressor_matrix"]))
        lost = self.output.with_name("lost")
        shutil.copytree(self.output, lost)
        (lost / "a.parquet").unlink()
        command = [sys.executable, Path(__file__).with_name("check_each.py"), "--input", ROOT / "inputs/iris"]
        folders = f"{self.output}\n{lost}\n{self.output}\n"
        done = subprocess.run(list(map(str, command)), input=folders, capture_output=True, text=True, check=True)
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([report["ok"] for report in reports], [True, False, True])
        self.assert_caught(reports[1], "120")


if __name__ == "__main__":
    unittest.main(verbosity=2)
