#!/usr/bin/env python3
"""Floe beside the Python program that a careful user would write: pyarrow and onnxruntime, tuned by hand.

    scripts/python-env --make && cargo build --release
    .venv/bin/python benches/peers.py [WORKLOAD ...] [--runs 3] [--rows-of wine=8000000 ...] [--engines ray,polars,...]

Workloads: wine (XGBoost, 13 doubles, 8,000,000 rows), flights (100 trees of depth 6, 26 columns, 5,000,000 rows), mlp (a
small network on the same rows), wide (600 columns of which the model reads ten), small (1,000 rows: start-up).

Two peers: `threads` is one process with two threads, each with files and a single-threaded session of its own;
`processes` the same as two processes. General engines can be asked for (engines.py). All run one after the other, round by round, so that a machine that drifts drifts
for all. Wall and processor time are those of the whole process tree, memory is the peak of its summed proportional set
size. Rows, original columns and predictions of all outputs are compared. Data and models are made once, below out/bench.
"""

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from engines import ENGINES, Scorer

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "out/bench"
FLIGHTS = ["dep_delay", "distance", "month", "day", "hour", "minute", "temp", "dewp", "humid", "wind_speed", "precip", "visib"]
WIDE = [f"f{index:03}" for index in range(600)]
# Rows a call: the best of a sweep for each model.
BATCH = {"wine": 4096, "flights": 4096, "mlp": 1024, "wide": 1024, "small": 1024}
ROWS = {"wine": 8_000_000, "flights": 5_000_000, "mlp": 5_000_000, "wide": 200_000, "small": 1_000}
OUTPUT = {"wine": "label", "flights": "variable", "mlp": "variable", "wide": "y", "small": "variable"}


def wine():
    from sklearn.datasets import load_wine

    data = load_wine()
    return data, [name.replace("/", "_") for name in data.feature_names]


def features(workload):
    return {"wine": lambda: wine()[1], "wide": lambda: WIDE[:10]}.get(workload, lambda: FLIGHTS)()


# Data and models


def write(folder, tables, group_rows):
    import pyarrow.parquet as pq

    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for index, table in enumerate(tables):
        pq.write_table(table, partial / f"part-{index:04}.parquet", compression="snappy", row_group_size=group_rows)
    partial.rename(folder)


def wine_tables(rows):
    import numpy as np
    import pyarrow as pa

    data, names = wine()
    rng, first = np.random.default_rng(7), 0
    while first < rows:
        count = min(1_000_000, rows - first)
        picked = data.data[rng.integers(0, len(data.data), count)]
        columns = {"row_id": pa.array(np.arange(first, first + count))}
        yield pa.table(columns | {name: pa.array(picked[:, index].copy()) for index, name in enumerate(names)})
        first += count


def flights_tables(rows, files=16):
    """The example's rows over and over, with other numbers: equal rows would make dictionaries too good."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = pq.read_table(ROOT / "examples/flights/data")
    rng, first = np.random.default_rng(8), 0
    shares = [4] + [1 + index % 3 for index in range(files - 1)]
    for index, share in enumerate(shares):
        count = rows * share // sum(shares) if index + 1 < files else rows - first
        part = source.take(rng.integers(0, source.num_rows, count))
        part = part.set_column(part.schema.get_field_index("row_id"), "row_id", pa.array(np.arange(first, first + count)))
        for name in ("temp", "dewp", "wind_speed"):
            column = part.column(name).to_numpy().astype("float64")
            noisy = np.round(column + rng.normal(size=count), 2)
            part = part.set_column(part.schema.get_field_index(name), name, pa.array(noisy, from_pandas=True))
        yield part
        first += count


def wide_tables(rows, files=12):
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(9)
    for index in range(files):
        first, end = rows * index // files, rows * (index + 1) // files
        columns = {name: rng.normal(size=end - first).astype("float32").round(3) for name in WIDE}
        yield pa.table({"row_id": np.arange(first, end)} | columns)


def dense_model(path, sizes):
    """A network of these layers with random weights: only its speed counts."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng, nodes, weights, last = np.random.default_rng(10), [], [], "features"
    for index, (width, height) in enumerate(zip(sizes, sizes[1:])):
        for name, shape in ((f"w{index}", (width, height)), (f"b{index}", (height,))):
            weights.append(numpy_helper.from_array((rng.normal(size=shape) * 0.3).astype("float32"), name))
        is_last = index + 2 == len(sizes)
        out = OUTPUT[path.parent.name] if is_last else f"h{index}"
        nodes.append(helper.make_node("Gemm", [last, f"w{index}", f"b{index}"], [out]))
        last = out
        if not is_last:
            nodes.append(helper.make_node("Relu", [out], [f"r{index}"]))
            last = f"r{index}"
    ends = [("features", ["n", sizes[0]]), (last, ["n", 1])]
    (source,), (target,) = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ends)
    graph = helper.make_graph(nodes, "dense", [source], [target], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)


def wine_model(folder):
    import numpy as np
    import xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    data, _ = wine()
    model = xgboost.XGBClassifier(n_estimators=100, max_depth=6, learning_rate=0.1, random_state=42, tree_method="hist")
    model.fit(data.data.astype(np.float32), data.target)
    converted = convert_xgboost(model, initial_types=[("features", FloatTensorType([None, 13]))], target_opset=15)
    (folder / "model.onnx").write_bytes(converted.SerializeToString())


def card(workload):
    name = OUTPUT[workload]
    return json.dumps({"functions": {"predict": {"model": "model.onnx", "inputs": {"features": {"columns": features(workload), "on_null": "nan"}}, "outputs": {name: {"name": "prediction"}}}}})


def prepare(workload, rows):
    data = BENCH / f"{'flights' if workload == 'mlp' else workload}-{rows}"
    if not data.exists():
        tables = {"wine": wine_tables, "wide": wide_tables, "small": lambda rows: flights_tables(rows, 1)}
        write(data, tables.get(workload, flights_tables)(rows), {"wine": 250_000}.get(workload, 131_072))
    model = BENCH / "models" / workload
    if not (model / "floe.yaml").exists():
        model.mkdir(parents=True, exist_ok=True)
        if workload == "wine":
            wine_model(model)
        elif workload == "flights":
            shutil.copy(ROOT / "examples/flights/model/flights.onnx", model / "model.onnx")
        else:
            dense_model(model / "model.onnx", [10, 32, 1] if workload == "wide" else [12, 64, 64, 1])
        (model / "floe.yaml").write_text(card(workload))
    return data, model


# The peers: this file, called as `peers.py --peer …`


def score_file(session, workload, source, target):
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, writer, size = features(workload), None, BATCH[workload]
    for batch in pq.ParquetFile(source, pre_buffer=True).iter_batches(batch_size=131_072, use_threads=False):
        table = pa.Table.from_batches([batch])
        matrix = np.empty((table.num_rows, len(names)), np.float32)
        for index, name in enumerate(names):
            matrix[:, index] = table.column(name).to_numpy()
        parts = [session.run([OUTPUT[workload]], {"features": matrix[at : at + size]})[0].ravel() for at in range(0, len(matrix), size)]
        table = table.append_column("prediction", pa.array(np.concatenate(parts)))
        writer = writer or pq.ParquetWriter(target, table.schema, compression="snappy")
        writer.write_table(table)
    if writer:
        writer.close()


def work(workload, model, jobs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{model}/model.onnx", options, providers=["CPUExecutionProvider"])
    for source, target in iter(jobs, None):
        score_file(session, workload, source, target)


def run_engine(kind, workload, data, model, output):
    scorer = functools.partial(Scorer, features=list(features(workload)), output=OUTPUT[workload], batch=BATCH[workload], model=model)
    # The engines' own processes find the scorer there.
    os.environ["PYTHONPATH"] = str(ROOT / "benches")
    ENGINES[kind](data, output, scorer)
    (Path(output) / "_SUCCESS").touch()


def run_peer(kind, workload, data, model, output, workers=2):
    if kind in ENGINES:
        return run_engine(kind, workload, data, model, output)
    os.environ["OMP_NUM_THREADS"] = "1"
    import multiprocessing
    import queue
    import threading

    import pyarrow as pa

    pa.set_cpu_count(1)
    spawn = multiprocessing.get_context("spawn")
    jobs = queue.Queue() if kind == "threads" else spawn.Queue()
    files = sorted(Path(data).glob("*.parquet"), key=lambda path: -path.stat().st_size)
    for source in files:
        jobs.put((str(source), f"{output}/{source.name}"))
    for _ in range(workers):
        jobs.put(None)
    make = threading.Thread if kind == "threads" else spawn.Process
    crew = [make(target=work, args=(workload, model, jobs.get)) if kind == "threads" else make(target=work_from, args=(workload, model, jobs)) for _ in range(workers)]
    for one in crew:
        one.start()
    for one in crew:
        one.join()
    (Path(output) / "_SUCCESS").touch()


def work_from(workload, model, jobs):
    work(workload, model, jobs.get)


# Measuring


def tree_memory(pid):
    """Megabytes of the process and its descendants, shared pages by share."""
    total = 0
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            total += int(line.split()[1]) / 1024 if line.startswith("Pss:") else 0
    except OSError:
        return 0
    return total + sum(tree_memory(int(child)) for child in children)


def measure(command, output):
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    before, began, peak = os.times(), time.monotonic(), 0
    log = output.with_suffix(".log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    sampled = 0
    while process.poll() is None:
        if time.monotonic() > sampled + 0.1:
            peak, sampled = max(peak, tree_memory(process.pid)), time.monotonic()
        time.sleep(0.002)
    wall, after = time.monotonic() - began, os.times()
    if process.returncode or not (output / "_SUCCESS").exists():
        sys.exit(f"{' '.join(map(str, command))} failed: {output.with_suffix('.log').read_text()[-2000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": used, "memory": peak}


def content(output):
    import pyarrow.dataset as dataset

    files = [str(path) for path in sorted(output.glob("*.parquet"))]
    return dataset.dataset(files, format="parquet").to_table().sort_by("row_id").combine_chunks()


def compare(workload, data, outputs):
    """Every output holds the input's rows, unchanged, and predictions equal to the first one's."""
    import numpy as np

    source = content(data)
    first = None
    for name, output in outputs.items():
        found = content(output)
        if not found.select(source.column_names).cast(source.schema).equals(source):
            sys.exit(f"{workload}: the columns of {name} are not those of the input")
        prediction = found.column("prediction").to_numpy().astype("float64")
        first = prediction if first is None else first
        if (np.isnan(prediction) != np.isnan(first)).any():
            sys.exit(f"{workload}: other predictions of {name} are NaN")
        difference = np.nanmax(np.abs(prediction - first), initial=0)
        if not difference <= 1e-3:
            sys.exit(f"{workload}: predictions of {name} differ by {difference}")
        print(f"  {name}: {found.num_rows} rows, columns equal, predictions within {difference:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=[])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows-of", action="append", default=[], metavar="WORKLOAD=ROWS")
    parser.add_argument("--engines", default="", help=f"of {', '.join(ENGINES)}, separated by commas")
    parser.add_argument("--floe", default=ROOT / "target/release/floe")
    parser.add_argument("--peer", nargs=5, metavar=("KIND", "WORKLOAD", "DATA", "MODEL", "OUTPUT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer:
        return run_peer(*asked.peer)
    sizes = ROWS | {name: int(rows) for name, rows in (pair.split("=") for pair in asked.rows_of)}
    for workload in asked.workloads or list(ROWS):
        data, model = prepare(workload, sizes[workload])
        outputs = {name: BENCH / f"out-{name}" for name in ("threads", "processes", *filter(None, asked.engines.split(",")), "floe")}
        runs = {name: [] for name in outputs}
        for turn in range(asked.runs + 1):
            for name, output in outputs.items():
                mine = [sys.executable, __file__, "--peer", name, workload, data, model, output]
                floe = [asked.floe, "run", "--model", model, "--input", data, "--output", output, "--mode", "overwrite", "--log", "warn"]
                measured = measure(floe if name == "floe" else mine, output)
                # The first round warms caches up.
                runs[name] += [measured] if turn else []
        medians = {name: {key: statistics.median(run[key] for run in runs[name]) for key in ("wall", "cpu", "memory")} for name in runs}
        best = min(medians[name]["wall"] for name in ("threads", "processes"))
        print(f"{workload}, {sizes[workload]:,} rows")
        for name, median in medians.items():
            rate = sizes[workload] / median["wall"]
            print(f"  {name}: {median['wall']:.2f} s, {rate:,.0f} rows/s, {median['cpu']:.2f} cpu-s, {median['memory']:.0f} MB, {best / median['wall']:.2f} of the best peer's speed")
        compare(workload, data, outputs)


if __name__ == "__main__":
    main()
