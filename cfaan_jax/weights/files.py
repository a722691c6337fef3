"""Files of weights as arrays, read without torch, without running code from them, and in bounded memory.

Arrays are views of the bytes in the file: a tensor takes no memory of its own, whatever size it claims.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from cfaan_jax.errors import InputError, reason
from cfaan_jax.runtime.files import check_unpacked_size, read_npz
from cfaan_jax.weights import pickled

_STORAGES = {name: np.dtype(kind) for name, kind in {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_}.items()}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a .pth from before torch 1.6
_MOST_AXES = 64  # of an array in NumPy, and of a tensor in torch


def read(path: str | Path) -> dict[str, Any]:
    """Reads .pth, .pt, .safetensors or .npz as (nested) mappings of arrays.

    InputError: a file that is missing, damaged, of another kind, or refers to more than tensors.
    """
    path = Path(path)
    readers = {".pth": _read_torch, ".pt": _read_torch, ".tar": _read_torch, ".npz": read_npz,
               ".safetensors": safetensors.numpy.load_file}
    if path.suffix not in readers:
        raise InputError(f"{path}: weights of an unknown kind; name a file that ends in {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path} is missing; put the weights there, name another file, or start from random weights: "
                         "--config.model.pretrained=none")
    try:
        content = readers[path.suffix](path)
    except InputError:
        raise
    # RuntimeError: nested too deeply, an encrypted zip file, or an unknown compression.
    except (ValueError, TypeError, KeyError, IndexError, EOFError, OSError, zipfile.BadZipFile, zlib.error,
            safetensors.SafetensorError, RuntimeError, MemoryError, OverflowError, struct.error) as error:
        raise InputError(f"{path}: not readable as weights ({reason(error)}); fetch the file again") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a mapping of names to arrays")
    return dict(content)


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_unpacked_size(archive, path.stat().st_size, 1)  # torch does not compress
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("data.pkl")]
            if not roots:
                raise InputError(f"{path}: a zip file without data.pkl, which torch weights have; fetch the file again")
            file = io.BytesIO(archive.read(roots[0] + "data.pkl"))
            storages = _Storages(lambda key: archive.read(f"{roots[0]}data/{key}"))
            return _arrays(_Reader(path, storages).load(file))
    return _read_legacy(path)


def _read_legacy(path: Path) -> Any:
    """The format before torch 1.6: several pickles, then the raw storages."""
    content = path.read_bytes()
    file, storages = io.BytesIO(content), _Storages()
    reader = _Reader(path, storages)
    if reader.load(file) != _LEGACY_MAGIC:
        raise InputError(f"{path}: does not begin like torch weights; fetch the file again")
    for _ in ("protocol", "system"):
        reader.load(file)
    tensors, keys = reader.load(file), reader.load(file)
    offset = file.tell()
    for key in keys:
        offset = storages.fill(_key(key), content, offset)
    return _arrays(tensors)


@dataclass
class _Storage:
    """The values that tensors view; the old format has them after the tensors."""

    dtype: np.dtype
    count: int
    values: np.ndarray | None = None


class _Storages:
    """The storages of a file by key: `read(key)` returns the bytes of one; without it, `fill` sets them later."""

    def __init__(self, read: Callable[[str], bytes] | None = None):
        self._read = read
        self._storages: dict[str, _Storage] = {}

    def get(self, key: str, dtype: np.dtype, count: int) -> _Storage:
        if key not in self._storages:
            values = np.frombuffer(self._read(key), dtype) if self._read else None
            self._storages[key] = _Storage(dtype, count, values)
        storage = self._storages[key]
        if (storage.dtype, storage.count) != (dtype, count):
            raise ValueError(f"storage {key[:20]!r} has two types")
        return storage

    def fill(self, key: str, content: bytes, offset: int) -> int:
        """Sets the values of a storage from an offset in the file; returns the offset after them."""
        storage, count = self._storages[key], int.from_bytes(content[offset:offset + 8], "little")
        if count != storage.count:
            raise ValueError(f"storage {key[:20]!r} has {count} elements instead of {storage.count}")
        storage.values = np.frombuffer(content, storage.dtype, count, offset + 8)
        return offset + 8 + storage.values.nbytes


class _Tensor:
    """A view of a storage, which becomes an array when the storage has its values."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        if not isinstance(storage, _Storage) or not len(shape) == len(strides) <= _MOST_AXES:
            raise ValueError("a tensor without a storage, or with too many axes")
        for number in (offset, *shape, *strides):
            _check_size(number)
        self._storage, self._offset, self._shape, self._strides = storage, offset, tuple(shape), tuple(strides)

    def array(self) -> np.ndarray:
        values, shape = self._storage.values, self._shape
        if values is None:
            raise ValueError("a storage is missing")
        last = self._offset + sum((length - 1) * stride for length, stride in zip(shape, self._strides, strict=True))
        # A tensor larger than its storage repeats elements; weights never do.
        if 0 not in shape and not (last < values.size and math.prod(shape) <= values.size):
            raise ValueError(f"a tensor of shape {shape} reaches outside its storage of {values.size}")
        strides = [stride * values.itemsize for stride in self._strides]
        return np.lib.stride_tricks.as_strided(values[self._offset:], shape, strides, writeable=False)


def _arrays(content: Any) -> Any:
    """Tensors as arrays, also in nested mappings; lists, such as those of an optimiser, are left out."""
    done: dict[int, Any] = {}  # by id: one mapping can be the value of many names, and of itself

    def arrays(part: Any) -> Any:
        if isinstance(part, _Tensor):
            return part.array()
        if not isinstance(part, dict):
            return part
        if id(part) not in done:
            done[id(part)] = {}
            done[id(part)].update((name, arrays(value)) for name, value in part.items()
                                  if isinstance(value, _Tensor | dict | int | float | str))
        return done[id(part)]

    return arrays(content)


def _rebuild_tensor(storage, offset, shape, strides, *_ignored):
    return _Tensor(storage, offset, shape, strides)


class _Reader:
    """Knows tensors, storages and ordered dictionaries, and refuses all other names."""

    _KNOWN = {
        ("collections", "OrderedDict"): pickled.dictionary,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_ignored: tensor,
        **{("torch", name): dtype for name, dtype in _STORAGES.items()},
    }

    def __init__(self, path: Path, storages: _Storages):
        self._path, self._storages = path, storages

    def load(self, file: io.BytesIO) -> Any:
        return pickled.load(file, self._resolve, self._storage)

    def _resolve(self, module: str, name: str) -> Any:
        if (module, name) in self._KNOWN:
            return self._KNOWN[module, name]
        reference = f"{module}.{name}"[:80]
        raise InputError(f"{self._path}: refers to {reference!r}, which weights do not need and which could run code; "
                         "save the bare state_dict")

    def _storage(self, reference: Any) -> _Storage:
        kind, dtype, key, _, count, *_ = reference
        if not (isinstance(kind, str) and kind == "storage" and isinstance(dtype, np.dtype)):
            raise ValueError("a reference to something other than a storage")
        return self._storages.get(_key(key), dtype, _check_size(count))


def _key(key: Any) -> str:
    if not isinstance(key, str | int):
        raise ValueError("a storage without a name")
    return str(key)


def _check_size(number: Any) -> int:
    """Returns a number of elements; ValueError for another value: integers in a pickle may have millions of digits."""
    if not isinstance(number, int) or not 0 <= number < 2**63:
        raise ValueError("a size that is not a number of elements, or larger than any storage")
    return number
