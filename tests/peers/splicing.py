#!/usr/bin/env python3
"""Files written by pyarrow in all sorts of ways, and what is left of them when columns are copied.

    splicing.py write --file FILE --seed N [--tiny]
    splicing.py check --input FILE --output FILE

`check` reads both with pyarrow and DuckDB: the input's columns must be equal, and every filter must find the same rows,
whatever statistics, page indexes and bloom filters it goes by. Prints one line of JSON; exits with 1 when anything is wrong.
"""

import argparse
import datetime
import decimal
import json
import random
import sys

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
EPOCH = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)


def table(dice: random.Random, rows: int) -> pa.Table:
    def column(make, data_type):
        nulls = dice.choice([0, 0, 0.1, 0.6])
        kind = dice.choice(["many", "few", "sorted"])
        numbers = [dice.randrange(20) if kind == "few" else dice.randrange(1 << 40) for _ in range(rows)]
        if kind == "sorted":
            numbers.sort()
        return pa.array([None if dice.random() < nulls else make(number) for number in numbers], data_type)

    columns = {name: pa.array([dice.random() * 8 for _ in range(rows)], pa.float64()) for name in FEATURES}
    makers = {
        "i8": (lambda n: n % 256 - 128, pa.int8()),
        "u32": (lambda n: n % (1 << 32), pa.uint32()),
        "i32": (lambda n: n % (1 << 32) - (1 << 31), pa.int32()),
        "i64": (lambda n: n, pa.int64()),
        "u64": (lambda n: n << 23, pa.uint64()),
        "f32": (lambda n: n / 7.0, pa.float32()),
        "f64": (lambda n: float("nan") if n % 13 == 0 else -0.0 if n % 11 == 0 else n / 3.0 - 1e9, pa.float64()),
        "flag": (lambda n: n % 2 == 0, pa.bool_()),
        "text": (lambda n: f"text {n} " + "é" * (n % 30), pa.string()),
        "large": (lambda n: f"large {n}", pa.large_string()),
        "raw": (lambda n: n.to_bytes(8, "big")[n % 8 :], pa.binary()),
        "fixed": (lambda n: n.to_bytes(8, "little"), pa.binary(8)),
        "day": (lambda n: datetime.date(1970, 1, 1) + datetime.timedelta(days=n % 40_000), pa.date32()),
        "at": (lambda n: EPOCH + datetime.timedelta(microseconds=n), pa.timestamp("us", tz="UTC")),
        "ns": (lambda n: n * 1000, pa.timestamp("ns")),
        "money": (lambda n: decimal.Decimal(n % 10**9).scaleb(-2), pa.decimal128(11, 2)),
        "big": (lambda n: decimal.Decimal(n * 10**9).scaleb(-5), pa.decimal128(30, 5)),
        "tags": (lambda n: [f"t{n % k}" for k in range(1, n % 5 + 1)], pa.list_(pa.string())),
        "pair": (lambda n: {"a": n % 1000, "b": [n % 7, None]}, pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int64()))])),
        "pairs": (lambda n: [(f"k{k}", n % 9) for k in range(n % 3)], pa.map_(pa.string(), pa.int32())),
    }
    for name in dice.sample(sorted(makers), dice.randrange(3, 9)):
        columns[name] = column(*makers[name])
    if dice.random() < 0.3:
        columns["label"] = column(lambda n: f"label {n % 40}", pa.string()).dictionary_encode()
    return pa.table(columns)


def write(file: str, seed: int, tiny: bool) -> dict:
    dice = random.Random(seed)
    rows = dice.choice([300, 3_000, 12_000]) if tiny else dice.choice([1, 500, 17_000, 20_000])
    data = table(dice, rows)
    options = {
        "compression": dice.choice(["none", "snappy", "gzip", "zstd", "lz4", "brotli"]),
        "data_page_version": dice.choice(["1.0", "2.0"]),
        "version": dice.choice(["1.0", "2.4", "2.6"]),
        "data_page_size": dice.choice([500, 20_000, 1 << 20]),
        "write_statistics": dice.choice([True, True, False]),
        "write_page_index": dice.choice([True, False]),
        "write_page_checksum": dice.choice([True, False]),
        "use_dictionary": dice.choice([True, False]),
        "store_schema": dice.choice([True, True, False]),
        "row_group_size": dice.choice([rows, 16_500]),
    }
    if tiny:
        options["row_group_size"] = dice.choice([7, 100, 250])
        options["compression"] = dice.choice(["none", "snappy", "snappy", "zstd"])
    encodings = {
        "i32": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
        "i64": ["PLAIN", "DELTA_BINARY_PACKED"],
        "f32": ["PLAIN", "BYTE_STREAM_SPLIT"],
        "f64": ["PLAIN", "BYTE_STREAM_SPLIT"],
        "text": ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"],
        "flag": ["PLAIN", "RLE"],
    }
    if not options["use_dictionary"]:
        chosen = {name: dice.choice(encodings[name]) for name in data.column_names if name in encodings}
        options["column_encoding"] = chosen or None
    pq.write_table(data, file, **options)
    return {"rows": rows, "columns": data.num_columns, **{name: str(value) for name, value in options.items()}}


def written(data: pa.Table) -> list:
    """Values as Python has them, NaN and zeros told apart."""
    return [(name, [repr(value) for value in data.column(name).to_pylist()]) for name in data.column_names]


def check(source: str, output: str) -> dict:
    problems = []
    verify = {"page_checksum_verification": True}
    before, after = pq.read_table(source, **verify), pq.read_table(output, **verify)
    names = before.column_names
    if written(before) != written(after.select(names)):
        problems.append("pyarrow reads other values")
    count = duckdb.connect()
    columns = ", ".join(f'"{name}"' for name in names)
    for left, right in [(source, output), (output, source)]:
        query = f"SELECT count(*) FROM (SELECT {columns} FROM '{left}' EXCEPT ALL SELECT {columns} FROM '{right}')"
        if (more := count.execute(query).fetchone()[0]) != 0:
            problems.append(f"DuckDB finds {more} rows of {left} that the other lacks")
    filters = 0
    for name in names:
        values = before.column(name)
        if pa.types.is_nested(values.type) or pa.types.is_dictionary(values.type):
            continue
        present = values.drop_null()
        if len(present) == 0:
            continue
        for at in {0, len(present) // 2, len(present) - 1}:
            value = present[at]
            for relate in (pc.equal, pc.less, pc.greater_equal):
                if pa.types.is_boolean(value.type) and relate is not pc.equal:
                    continue
                filters += 1
                wanted = pc.sum(pc.fill_null(relate(values, value), False).cast(pa.int64())).as_py()
                condition = relate(ds.field(name), ds.scalar(value))
                found = ds.dataset(output).count_rows(filter=condition)
                if found != wanted:
                    problems.append(f"pyarrow finds {found} rows instead of {wanted}: {condition}")
            # DuckDB has NaN equal to NaN, and believes bounds that leave NaN out: what it finds depends on who made them.
            if value.as_py() != value.as_py():
                continue
            filters += 1
            query = "SELECT count(*) FROM '{}' WHERE \"" + name + "\" = (SELECT \"" + name + "\" FROM '{}' WHERE \"" + name
            query += f'" IS NOT NULL LIMIT 1 OFFSET {at})'
            counts = [count.execute(query.format(file, source)).fetchone()[0] for file in (source, output)]
            if counts[0] != counts[1]:
                problems.append(f"DuckDB finds {counts[1]} rows instead of {counts[0]} in {name}")
    metadata = [pq.read_metadata(file) for file in (source, output)]
    kept, copied = 0, 0
    if metadata[0].num_row_groups == metadata[1].num_row_groups:
        places = {metadata[1].schema.column(leaf).path: leaf for leaf in range(metadata[1].num_columns)}
        for group in range(metadata[0].num_row_groups):
            for leaf in range(metadata[0].num_columns):
                path = metadata[0].schema.column(leaf).path
                if path not in places:
                    continue
                was, now = metadata[0].row_group(group).column(leaf), metadata[1].row_group(group).column(places[path])
                is_copy = was.total_compressed_size == now.total_compressed_size
                copied += is_copy
                if is_copy and was.is_stats_set and was.statistics.has_min_max:
                    kept += now.is_stats_set and now.statistics.has_min_max
                    if not (now.is_stats_set and now.statistics.has_min_max):
                        problems.append(f"{path} has lost its bounds")
                    elif repr((was.statistics.min_raw, was.statistics.max_raw)) != repr(
                        (now.statistics.min_raw, now.statistics.max_raw)
                    ):
                        problems.append(f"{path} has other bounds")
                if is_copy and was.has_column_index and not (now.has_column_index and now.has_offset_index):
                    problems.append(f"{path} has lost its page index")
    return {"ok": not problems, "filters": filters, "copied": copied, "bounds": kept, "problems": problems}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("--file", required=True)
    writing.add_argument("--seed", type=int, required=True)
    writing.add_argument("--tiny", action="store_true", help="row groups that are joined")
    checking = commands.add_parser("check")
    checking.add_argument("--input", required=True)
    checking.add_argument("--output", required=True)
    given = parser.parse_args()
    report = write(given.file, given.seed, given.tiny) if given.command == "write" else check(given.input, given.output)
    print(json.dumps(report, ensure_ascii=False))
    return 0 if report.get("ok", True) else 1


if __name__ == "__main__":
    sys.exit(main())
