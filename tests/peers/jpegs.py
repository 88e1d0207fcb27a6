"""Makes JPEG files of every sort that Pillow writes, and their pixels as Pillow reads them.

    jpegs.py FOLDER COUNT

Makes NNNN.jpg; NNNN.rgb: width, height and 0 (32 bits each, little-endian), then three bytes a pixel; NNNN.resized: the same of
the image in another size, with the code of the filter for 0; NNNN.reduced: the same of the image as `draft` reads it for a smaller
size, with that size for 0, 16 bits each; NNNN.thumbnail: that in this size, as `thumbnail` does it, with the code of the filter.

Noise, waves and edges; sizes from one pixel on; one, three and four components; all samplings, also those that Pillow can't write
(sampling factors changed in the file); progressive or not; restart markers; Adobe's transforms. Seeds are fixed.
"""

import io
import pathlib
import random
import struct
import sys

import numpy as np
from PIL import Image

random.seed(20)
rng = np.random.default_rng(20)


def picture(width, height, kind):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    if kind == "noise":
        pixels = rng.integers(0, 256, (height, width, 3))
    elif kind == "waves":
        pace = rng.uniform(1, 40, 3)
        pixels = np.stack([np.sin(x / pace[i] + i) * np.cos(y / pace[-i]) * 127.5 + 127.5 for i in range(3)], -1)
    else:
        slant = rng.uniform(-1, 1, 3)
        pixels = np.stack([np.where((x * slant[i] + y) % 37 < 17, 240, 10) for i in range(3)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def extents():
    most = random.choice([4, 20, 20, 90, 90, 300])
    return random.randint(1, most), random.randint(1, most)


def encoded(number):
    mode = random.choice(["RGB"] * 6 + ["L", "CMYK"])
    image = picture(*extents(), ["noise", "waves", "edges"][number % 3])
    if mode == "CMYK":
        image = Image.merge("CMYK", [*image.split(), image.convert("L")])
    else:
        image = image.convert(mode)
    how = {
        "quality": random.choice([1, 5, 30, 60, 75, 90, 95, 100]),
        "progressive": random.random() < 0.4,
        "optimize": random.random() < 0.4,
    }
    if mode == "RGB":
        how["subsampling"] = random.choice([0, 1, 2])
        if random.random() < 0.1:
            how |= {"keep_rgb": True, "subsampling": 0}
    if random.random() < 0.3:
        how["restart_marker_blocks"] = random.randint(1, 9)
    elif random.random() < 0.2:
        how["restart_marker_rows"] = random.randint(1, 3)
    file = io.BytesIO()
    image.save(file, "JPEG", **how)
    return bytearray(file.getvalue())


def frame(data):
    """Where the frame header is."""
    return next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2))


def changed(data):
    """What other writers do: another transform, other sampling factors where as many blocks remain."""
    adobe = data.find(b"Adobe")
    at = frame(data)
    height, width, components = struct.unpack(">HHB", data[at + 5 : at + 10])
    if adobe > 0 and components == 4 and random.random() < 0.5:
        data[adobe + 11] = 2
    if components == 3 and data[at + 11] == 0x21 and random.random() < 0.5:
        # Two blocks on top of each other instead of side by side, in an image that is turned.
        data[at + 5 : at + 9] = struct.pack(">HH", width, height)
        units = -(-width // 16), -(-height // 8)
        if units[0] == 1 or units[1] == 1 or units[0] == units[1]:
            data[at + 11] = 0x12
        else:
            data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    if data[at + 11] == 0x22 and data[at + 1] == 0xC0 and random.random() < 0.4:
        # Four blocks side by side or on top of each other instead of two by two.
        units = -(-width // 16), -(-height // 16)
        across, down = random.choice([(4, 1), (1, 4)])
        data[at + 5 : at + 9] = struct.pack(">HH", units[1] * down * 8, units[0] * across * 8 - random.randint(0, 7))
        data[at + 11] = across << 4 | down
    if components == 1:
        data[at + 11] = random.choice([0x11, 0x22, 0x41])
    return data


def main(folder, count):
    made = 0
    while made < count:
        try:
            data = changed(encoded(made))
            with Image.open(io.BytesIO(data)) as image:
                image = image.convert("RGB")
        except OSError:
            # Some settings don't go together, or overflow the writer's buffer.
            continue
        name = pathlib.Path(folder) / f"{made:04}"
        name.with_suffix(".jpg").write_bytes(data)
        code = random.randrange(6)
        resized = image.resize(extents(), Image.Resampling(code))
        times = random.choice([1, 2, 3, 4, 7, 8, 9, 40])
        enough = [max(1, side // times - random.randint(0, 1)) for side in image.size]
        with Image.open(io.BytesIO(data)) as reduced:
            # Nothing, when the whole is read: then the whole is the box.
            drafted = reduced.draft(None, enough)
            reduced = reduced.convert("RGB")
        box = drafted[1] if drafted else None
        thumbnail = reduced.resize(enough, Image.Resampling(code), box)
        enough = enough[0] << 16 | enough[1]
        pictures = [(0, image), (code, resized), (enough, reduced), (code, thumbnail)]
        for kind, (of, image) in zip([".rgb", ".resized", ".reduced", ".thumbnail"], pictures):
            header = struct.pack("<III", *image.size, of)
            name.with_suffix(kind).write_bytes(header + np.asarray(image).tobytes())
        made += 1


main(sys.argv[1], int(sys.argv[2]))
