#!/usr/bin/env python3
"""Trains model/flights.onnx: how late a flight arrives, in minutes, told at the moment it leaves.

scikit-learn's gradient-boosted trees learn from data/ (run make_data.py first) and are written as one ONNX
TreeEnsembleRegressor: input `features` float32 [rows, 12], output `variable` float32 [rows, 1]. Trees send
missing values their own way at every split, so nulls need no filling: they go in as NaN. The metadata key
`feature_names` holds the columns' names in order, and model/floe.yaml says the same for people.

    $(scripts/python-env --make) examples/flights/train.py

The result is checked before the script ends: R² on flights not learnt from, and the same predictions from
ONNX Runtime as from scikit-learn on all of them, nulls included.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import helper
from sklearn.ensemble import HistGradientBoostingRegressor

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model" / "flights.onnx"

FEATURES = [
    "dep_delay", "distance", "month", "day", "hour", "minute",
    "temp", "dewp", "humid", "wind_speed", "precip", "visib",
]  # fmt: skip


def load() -> tuple[np.ndarray, np.ndarray]:
    """Features [rows, 12] and arrival delays [rows], float32; a null is NaN in both."""
    table = pq.read_table(HERE / "data", columns=[*FEATURES, "arr_delay"])
    columns = [table[name].cast(pa.float32()).to_numpy() for name in table.column_names]
    matrix = np.stack(columns, axis=1)
    return matrix[:, :-1], matrix[:, -1]


def float32_at_most(value: float) -> float:
    """The greatest float32 not above `value`: x <= value is then the same for every float32 x."""
    rounded = np.float32(value)
    return float(np.nextafter(rounded, np.float32(-np.inf)) if rounded > value else rounded)


def to_onnx(model: HistGradientBoostingRegressor) -> onnx.ModelProto:
    """The fitted trees as a single TreeEnsembleRegressor node.

    Written by hand: skl2onnx 1.20 stops at these trees with the pinned onnx, which takes no booleans for
    `nodes_missing_value_tracks_true`.
    """
    nodes = {key: [] for key in ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")}
    missing_goes_left, leaves = [], {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree, (predictor,) in enumerate(model._predictors):
        for index, node in enumerate(predictor.nodes):
            assert not node["is_categorical"]
            is_leaf = bool(node["is_leaf"])
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(index)
            nodes["modes"].append("LEAF" if is_leaf else "BRANCH_LEQ")
            nodes["featureids"].append(0 if is_leaf else int(node["feature_idx"]))
            nodes["values"].append(0.0 if is_leaf else float32_at_most(node["num_threshold"]))
            nodes["truenodeids"].append(0 if is_leaf else int(node["left"]))
            nodes["falsenodeids"].append(0 if is_leaf else int(node["right"]))
            missing_goes_left.append(int(not is_leaf and node["missing_go_to_left"]))
            if is_leaf:
                leaves["treeids"].append(tree)
                leaves["nodeids"].append(index)
                leaves["ids"].append(0)
                leaves["weights"].append(float(node["value"]))
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["variable"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[float(np.ravel(model._baseline_prediction)[0])],
        nodes_missing_value_tracks_true=missing_goes_left,
        **{f"nodes_{key}": values for key, values in nodes.items()},
        **{f"target_{key}": values for key, values in leaves.items()},
    )
    graph = helper.make_graph(
        [ensemble],
        "flights",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["rows", len(FEATURES)])],
        [helper.make_tensor_value_info("variable", onnx.TensorProto.FLOAT, ["rows", 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="floe-examples")
    helper.set_model_props(proto, {"feature_names": json.dumps(FEATURES)})
    onnx.checker.check_model(proto)
    return proto


def main() -> None:
    features, arrival_delay = load()
    # A flight that never arrived has nothing to learn from; it is scored all the same.
    known = np.flatnonzero(~np.isnan(arrival_delay))
    shuffled = np.random.default_rng(2013).permutation(known)
    train, held_out = shuffled[:260_000], shuffled[260_000:]

    model = HistGradientBoostingRegressor(
        max_iter=100, learning_rate=0.1, max_leaf_nodes=63, max_depth=6, early_stopping=False, random_state=0
    ).fit(features[train], arrival_delay[train])
    MODEL.parent.mkdir(exist_ok=True)
    onnx.save(to_onnx(model), MODEL)

    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    predicted = session.run(["variable"], {"features": features})[0][:, 0]
    expected = model.predict(features)
    truth = arrival_delay[held_out]
    r_squared = 1 - np.square(predicted[held_out] - truth).sum() / np.square(truth - truth.mean()).sum()
    with_gaps = np.isnan(features).any(axis=1)
    difference = np.abs(predicted - expected)
    print(f"{MODEL.name}: {MODEL.stat().st_size:,} bytes, {len(model._predictors)} trees")
    print(f"R² on {len(held_out):,} held-out flights: {r_squared:.4f}")
    print(f"max |onnx - scikit-learn|: {difference.max():.2e} over {len(predicted):,} flights,")
    print(f"  {difference[with_gaps].max():.2e} over the {with_gaps.sum():,} of them with a missing feature")
    assert r_squared > 0.8 and difference.max() < 1e-3


if __name__ == "__main__":
    main()
