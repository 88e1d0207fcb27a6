"""Weights out of a file of PyTorch's older format (before 1.6), without PyTorch and without running what the file says.

Such a file is a row of pickles (magic number, version, sizes, the state dictionary, the keys of its storages), then each
storage: its length as int64 and its numbers. A pickle may call whatever it names; here it may name four things, none of
which does more than note what it was given. Everything else ends the reading.
"""

import collections
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class Storage(NamedTuple):
    """A storage by its key: what it holds comes later in the file."""

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """A view of a storage, in numbers and not in bytes."""

    storage: Storage
    offset: int
    shape: tuple
    stride: tuple


def rebuild(storage, offset, shape, stride, _requires_grad, _hooks) -> Tensor:
    return Tensor(storage, offset, shape, stride)


class Reader(pickle.Unpickler):
    """Knows the state dictionary of a network, and nothing that acts."""

    KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild,
        **{("torch", name): dtype for name, dtype in TYPES.items()},
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"the file names {module}.{name}, which has no place in a file of weights")
        return self.KNOWN[module, name]

    def persistent_load(self, what):
        kind, dtype, key, _device, length, view = what
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise pickle.UnpicklingError(f"the file refers to {what!r}, not to a storage")
        return Storage(key, dtype, length)


def read(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of the state dictionary, by name."""
    with open(path, "rb") as file:
        magic, version, sizes, tensors, keys = (Reader(file).load() for _ in range(5))
        if magic != MAGIC or version != 1001 or not sizes["little_endian"]:
            raise ValueError(f"{path} is not a little-endian file of PyTorch's older format")
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise ValueError(f"{path} holds other things than tensors")
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        numbers = {}
        for key in keys:
            _, dtype, length = storages[key]
            if int.from_bytes(file.read(8), "little") != length:
                raise ValueError(f"{path} is damaged: storage {key} has another length than it was announced with")
            numbers[key] = np.frombuffer(file.read(length * dtype.itemsize), dtype, length)
        if file.read(1):
            raise ValueError(f"{path} goes on after its last storage")
    return {name: view(tensor, numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def view(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    """A copy of what the tensor shows of its storage: the indices are checked, as strides of a file may lie."""
    indices = np.full(tensor.shape, tensor.offset)
    for axis, (extent, stride) in enumerate(zip(tensor.shape, tensor.stride, strict=True)):
        steps = np.arange(extent) * stride
        indices += steps.reshape([-1 if other == axis else 1 for other in range(len(tensor.shape))])
    return numbers[indices]
