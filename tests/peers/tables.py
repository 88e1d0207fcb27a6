"""Reads Parquet folders with other people's readers and compares them row by row.

Used by the checkers beside it; shares no code and no library with Floe. A folder is read through pyarrow or
through DuckDB, column by column, so that ten million rows need the memory of a few columns. Rows are matched
by a key column, because replicas and partitions may lay them down in any order.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
EXAMPLES = 5


def parquet_files(root: Path) -> list[Path]:
    """Every *.parquet at or below `root`, but for names and folders that begin with `_` or `.`."""
    if root.is_file():
        return [root]
    found = sorted(root.rglob("*.parquet"))
    return [p for p in found if not any(part[0] in "_." for part in p.relative_to(root).parts)]


class PyarrowReader:
    @staticmethod
    def schema(path: Path) -> pa.Schema:
        return pq.ParquetFile(path).schema_arrow

    @staticmethod
    def column(path: Path, name: str) -> pa.ChunkedArray:
        return pq.ParquetFile(path).read(columns=[name])[name]


class DuckdbReader:
    """Types are those that DuckDB makes of the file, on both sides alike."""

    connection = None

    @classmethod
    def query(cls, path: Path, select: str):
        if cls.connection is None:
            import duckdb  # here, because a check with pyarrow should not need it

            cls.connection = duckdb.connect()
        escaped = str(path).replace("'", "''")
        return cls.connection.sql(f"{select} from read_parquet('{escaped}', hive_partitioning = false)")

    @classmethod
    def schema(cls, path: Path) -> pa.Schema:
        return cls.query(path, "select *").limit(0).to_arrow_table().schema

    @classmethod
    def column(cls, path: Path, name: str) -> pa.ChunkedArray:
        escaped = name.replace('"', '""')
        return cls.query(path, f'select "{escaped}"').to_arrow_table().column(0)


READERS = {"pyarrow": PyarrowReader, "duckdb": DuckdbReader}


class Folder:
    """The Parquet files below a path as one table, read a column at a time."""

    def __init__(self, root: Path, reader: str = "pyarrow") -> None:
        self.root = root
        self.reader = READERS[reader]
        self.files = parquet_files(root)
        self.schemas = [self.reader.schema(path) for path in self.files]

    def names(self) -> list[str]:
        return self.schemas[0].names if self.schemas else []

    def partition_value(self, path: Path, name: str) -> str | None:
        """What the folders above `path` say of a column (`name=value`); raises KeyError if nothing."""
        for part in path.relative_to(self.root).parts[:-1]:
            key, equals, value = part.partition("=")
            if equals and unquote(key) == name:
                return None if value == NULL_PARTITION else unquote(value)
        raise KeyError(name)

    def column(self, name: str, type_if_in_path: pa.DataType | None = None) -> pa.ChunkedArray:
        """A column of all files, in the files' order. One that a file lacks is taken from its path.

        Raises KeyError when a file has it in neither place, TypeError when files disagree on its type.
        """
        chunks, of_type = [], {}
        for path, schema in zip(self.files, self.schemas):
            if name in schema.names:
                column = self.reader.column(path, name)
            else:
                value = self.partition_value(path, name)
                rows = pq.read_metadata(path).num_rows
                column = pa.chunked_array([pa.repeat(pa.scalar(value, pa.string()), rows)])
                column = column.cast(type_if_in_path or pa.string())
            of_type.setdefault(str(column.type), path)
            chunks.extend(column.chunks or [pa.array([], column.type)])
        if len(of_type) > 1:
            raise TypeError(f"column {name} is of different types in different files: {', '.join(of_type)}")
        return pa.chunked_array(chunks)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values in a form whose equality is bit by bit: no dictionaries, floats as their bits."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        bits = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[column.type.bit_width]
        return pa.chunked_array([chunk.view(bits) for chunk in column.chunks], bits)
    return column


def first_difference(left: pa.ChunkedArray, right: pa.ChunkedArray) -> int | None:
    """The first row where two columns of one type differ, or None. NaN equals NaN, null equals null."""
    left_plain, right_plain = plain(left), plain(right)
    if left_plain.equals(right_plain):
        return None
    # Nested NaN makes equal columns look different, so the rest is settled row by row.
    step = 4096
    for start in range(0, len(left), step):
        a, b = left_plain.slice(start, step), right_plain.slice(start, step)
        if a.equals(b):
            continue
        for offset, (x, y) in enumerate(zip(a, b)):
            if repr(x.as_py()) != repr(y.as_py()):
                return start + offset
    return None


def some(values) -> str:
    shown = [str(v) for v in values[:EXAMPLES]]
    return ", ".join(shown) + (", …" if len(values) > EXAMPLES else "")


class Match:
    """Rows of an output matched with rows of an input by key; `problems` says what does not agree.

    With `rows_agree`, `input_column(name)` and `output_column(name)` come in one and the same order.
    """

    def __init__(self, source: Folder, output: Folder, key: str, marker: bool = True) -> None:
        self.source, self.output, self.key = source, output, key
        self.problems: list[str] = []
        self.rows = 0
        self.rows_agree = False
        if marker and not (output.root / "_SUCCESS").is_file():
            self.problems.append("no _SUCCESS in the output")
        if not source.files:
            self.problems.append("no Parquet files in the input")
        elif not output.files:
            self.problems.append("no Parquet files in the output")
        else:
            self.match_rows()

    def match_rows(self) -> None:
        try:
            self.input_keys = self.source.column(self.key)
            self.output_keys = self.output.column(self.key, self.input_keys.type)
        except KeyError:
            self.problems.append(f"no key column {self.key} on both sides")
            return
        except TypeError as error:
            self.problems.append(str(error))
            return
        self.rows = len(self.output_keys)
        if self.input_keys.type != self.output_keys.type:
            self.problems.append(f"column {self.key}: {self.input_keys.type} in, {self.output_keys.type} out")
            return
        if len(pc.unique(self.input_keys)) != len(self.input_keys) or self.input_keys.null_count:
            self.problems.append(f"{self.key} is no key: not unique in the input")
            return
        self.input_order = sorted_indices(self.input_keys)
        self.output_order = sorted_indices(self.output_keys)
        if self.input_column(self.key).equals(self.output_column(self.key)):
            self.rows_agree = True
            return
        lost = self.input_keys.filter(pc.invert(pc.is_in(self.input_keys, self.output_keys.combine_chunks())))
        foreign = self.output_keys.filter(pc.invert(pc.is_in(self.output_keys, self.input_keys.combine_chunks())))
        counts = pc.value_counts(self.output_keys)
        doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        for what, keys in (("lost", lost), ("there more than once", doubled), ("not in the input", foreign)):
            if len(keys):
                self.problems.append(f"{len(keys)} rows {what}: {self.key} {some(keys)}")

    def input_column(self, name: str) -> pa.ChunkedArray:
        return taken(self.source.column(name), self.input_order)

    def output_column(self, name: str) -> pa.ChunkedArray:
        in_path = self.source.schemas[0].field(name).type if name in self.source.names() else None
        return taken(self.output.column(name, in_path), self.output_order)

    def key_of(self, row: int) -> str:
        return f"{self.key} {self.input_keys[self.input_order[row].as_py()]}"

    def compare_columns(self, added: set[str] | None) -> None:
        """Every input column is in the output, same type, same values; only `added` (None: any) came on top."""
        names = self.output.names()
        for path, schema in zip(self.output.files, self.output.schemas):
            if schema.names != names:
                self.problems.append(f"{path.relative_to(self.output.root)} has other columns than {self.output.files[0].name}")
        for name in sorted({n for n in names if names.count(n) > 1}):
            self.problems.append(f"column {name} is there more than once")
        if added is not None:
            for name in [n for n in names if n not in self.source.names() and n not in added]:
                self.problems.append(f"column {name} is in the output, and nobody asked for it")
        for name in self.source.names():
            self.compare_column(name)

    def compare_column(self, name: str) -> None:
        try:
            left, right = self.input_column(name), self.output_column(name)
        except KeyError:
            self.problems.append(f"column {name} is missing in the output")
            return
        except TypeError as error:
            self.problems.append(str(error))
            return
        if left.type != right.type:
            self.problems.append(f"column {name}: {left.type} in, {right.type} out")
            return
        row = first_difference(left, right)
        if row is not None:
            self.problems.append(f"column {name}, {self.key_of(row)}: {left[row]} in, {right[row]} out")


def sorted_indices(keys: pa.ChunkedArray) -> pa.Array:
    return pc.sort_indices(pa.table({"key": keys}), sort_keys=[("key", "ascending")])


def taken(column: pa.ChunkedArray, order: pa.Array) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.take(order)
