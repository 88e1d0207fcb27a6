"""General engines as peers: what somebody writes who has Ray Data, Daft, Polars, DuckDB or Spark and an ONNX model.

Used by peers.py (`--engines ray,polars,…`). Each gets its own defaults, two cores, and the batches that suit the model; the engine
reads and writes Parquet, the model is called in Python, as all of them do it. They are not in the project's Python
environment: `pip install ray daft polars duckdb pyspark` into the one that runs peers.py.
"""

import os

ROWS_AT_ONCE = 131_072


class Scorer:
    """Adds the column `prediction` to Arrow tables."""

    def __init__(self, threads, features, output, batch, model):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(f"{model}/model.onnx", options, providers=["CPUExecutionProvider"])
        self.features, self.output, self.batch = features, output, batch

    def predictions(self, table):
        import numpy as np
        import pyarrow as pa

        matrix = np.empty((table.num_rows, len(self.features)), np.float32)
        for index, name in enumerate(self.features):
            matrix[:, index] = table.column(name).to_numpy()
        starts = range(0, len(matrix), self.batch)
        parts = [self.session.run([self.output], {"features": matrix[at : at + self.batch]})[0].ravel() for at in starts]
        return pa.array(np.concatenate(parts) if parts else np.empty(0, np.float32))

    def __call__(self, table):
        return table.append_column("prediction", self.predictions(table))


def ray(data, output, scorer):
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Actor:
        def __init__(self):
            self.score = scorer(1)

        def __call__(self, table):
            return self.score(table)

    rows = ray.data.read_parquet(data)
    rows = rows.map_batches(Actor, batch_size=ROWS_AT_ONCE, batch_format="pyarrow", concurrency=2, num_cpus=1, zero_copy_batch=True)
    rows.write_parquet(output, compression="snappy")


def daft(data, output, scorer):
    os.environ |= {"DAFT_PROGRESS_BAR": "0", "DO_NOT_TRACK": "1"}
    import daft
    import pyarrow as pa

    rows = daft.read_parquet(data)
    names = scorer.keywords["features"]
    dtype = daft.DataType.int64() if scorer.keywords["output"] == "label" else daft.DataType.float32()

    @daft.cls(max_concurrency=2, use_process=True)
    class Actor:
        def __init__(self):
            self.scorer = scorer(1)

        @daft.method.batch(return_dtype=dtype, batch_size=ROWS_AT_ONCE)
        def run(self, *columns):
            return self.scorer.predictions(pa.table({name: column.to_arrow() for name, column in zip(names, columns)}))

    rows = rows.with_column("prediction", Actor().run(*[daft.col(name) for name in names]))
    rows.write_parquet(output, compression="snappy")


def polars(data, output, scorer):
    import polars

    score = scorer(2)
    rows = polars.scan_parquet(f"{data}/*.parquet")
    dtype = polars.Int64 if score.output == "label" else polars.Float32

    def added(frame):
        parts = [polars.from_arrow(score.predictions(part.select(score.features).to_arrow())) for part in frame.iter_slices(ROWS_AT_ONCE)]
        column = polars.concat(parts) if parts else polars.Series([], dtype=dtype)
        return frame.with_columns(column.alias("prediction"))

    schema = polars.Schema(dict(rows.collect_schema()) | {"prediction": dtype})
    scored = rows.map_batches(added, schema=schema, streamable=True, projection_pushdown=False, predicate_pushdown=False)
    scored.sink_parquet(f"{output}/part-0.parquet", compression="snappy", engine="streaming")


def duckdb(data, output, scorer):
    import duckdb
    import pyarrow as pa

    score = scorer(2)
    reading, writing = duckdb.connect(), duckdb.connect()
    for connection in (reading, writing):
        connection.execute("SET threads=2; SET preserve_insertion_order=false")
    batches = reading.execute(f"SELECT * FROM read_parquet('{data}/*.parquet')").to_arrow_reader(ROWS_AT_ONCE)
    added = pa.int64() if score.output == "label" else pa.float32()
    schema = batches.schema.append(pa.field("prediction", added))

    def scored():
        for batch in batches:
            if batch.num_rows:
                yield from score(pa.Table.from_batches([batch])).to_batches()

    rows = pa.RecordBatchReader.from_batches(schema, scored())  # noqa: F841 (named in the query)
    writing.execute(f"COPY (SELECT * FROM rows) TO '{output}/part-0.parquet' (FORMAT parquet, COMPRESSION snappy)")


def spark(data, output, scorer):
    import sys

    os.environ |= {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    from pyspark.sql import SparkSession, types

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "4g")
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "65536").config("spark.sql.files.maxPartitionBytes", "32m")
    session = builder.config("spark.sql.parquet.compression.codec", "snappy").config("spark.driver.host", "localhost").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    made = types.LongType() if scorer.keywords["output"] == "label" else types.FloatType()

    def scored(batches):
        import pyarrow as pa

        score = scorer(1)
        for batch in batches:
            yield from score(pa.Table.from_batches([batch])).to_batches()

    rows = session.read.parquet(data)
    schema = types.StructType([*rows.schema.fields, types.StructField("prediction", made)])
    rows.mapInArrow(scored, schema).write.mode("overwrite").parquet(output)
    session.stop()


ENGINES = {"ray": ray, "daft": daft, "polars": polars, "duckdb": duckdb, "spark": spark}
