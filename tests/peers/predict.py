"""Runs a case's model with Python's onnxruntime on feeds built in plain numpy: what Floe should have said.

The feeds follow cases.json to the letter (see tests/fixtures/models/making/case.py); nothing is guessed from
the model but its one fixed thing, the batch size, and that too is written in the case.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa

FATAL_ONLY = 4


def column_values(column: pa.ChunkedArray, feed: dict) -> np.ndarray:
    """One column as [n] of the feed's type, nulls as the feed says."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if feed["dtype"] == "string":
        return np.array(column.to_pylist(), dtype=object)
    if column.null_count:
        policy = feed["on_null"]  # a KeyError here is a mistake in the case: nulls, and nothing said about them
        filler = float("nan") if policy == "nan" else feed["fill_value"]
        column = column.cast(pa.float64()).fill_null(filler)
    return column.to_numpy().astype(feed["dtype"])


def build_feed(table: pa.Table, name: str, feed: dict, params: dict) -> np.ndarray:
    """The array for one model input; axis 0 is the row, but for params."""
    if feed["shape"] == "param":
        return np.array(params[name], dtype=feed["dtype"]).reshape(feed["dims"])
    if feed["shape"] == "list":
        (column,) = feed["columns"]
        return np.array(table[column].to_pylist(), dtype=feed["dtype"]).reshape(-1, *feed["dims"])
    columns = [column_values(table[column], feed) for column in feed["columns"]]
    if feed["shape"] == "matrix":
        return np.stack(columns, axis=1)
    (values,) = columns
    return {"vector": values, "column": values.reshape(-1, 1)}[feed["shape"]]


def run_in_batches(session, names: list[str], feeds: dict, shared: dict, rows: int, batch_rows: int) -> list:
    """Calls a model that takes exactly `batch_rows` rows: the last batch is filled with its last row, then cut."""
    results: list[list] = [[] for _ in names]
    for start in range(0, rows, batch_rows):
        picked = np.minimum(np.arange(start, start + batch_rows), rows - 1)
        answers = session.run(names, {name: array[picked] for name, array in feeds.items()} | shared)
        for result, answer in zip(results, answers):
            result.extend(answer[: rows - start])
    return results


def predict(case: dict, model: Path, table: pa.Table) -> dict[str, tuple[str, object]]:
    """By the model's output name: ONNX's name of its type, and the values (an array, or a list of dicts)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = 1  # tree ensembles add up in another order on more threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    params = case.get("params", {})
    feeds = {name: build_feed(table, name, feed, params) for name, feed in case["feeds"].items()}
    shared = {name: array for name, array in feeds.items() if case["feeds"][name]["shape"] == "param"}
    by_row = {name: array for name, array in feeds.items() if name not in shared}
    names = list(case["outputs"])
    if batch_rows := case.get("batch_rows"):
        results = run_in_batches(session, names, by_row, shared, table.num_rows, batch_rows)
    else:
        results = session.run(names, feeds)
    types = {output.name: output.type for output in session.get_outputs()}
    return {name: (types[name], values) for name, values in zip(names, results)}
