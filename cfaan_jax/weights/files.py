"""Reads files of weights as arrays, without torch and without ever running code from them.

A .pth file is a pickle, and a pickle is a program. The unpickler here knows the few names that tensors need and refuses
every other.
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from cfaan_jax.errors import InputError

_STORAGES = {
    "FloatStorage": np.float32, "DoubleStorage": np.float64, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # how a .pth from before torch 1.6 begins


def read(path: str | Path) -> dict[str, Any]:
    """Reads .pth, .pt, .safetensors or .npz as (nested) mappings of arrays.

    Raises:
        InputError: missing, damaged or of another kind, or it asks for anything but tensors.
    """
    path = Path(path)
    readers = {".pth": _read_torch, ".pt": _read_torch, ".tar": _read_torch, ".npz": _read_npz,
               ".safetensors": safetensors.numpy.load_file}
    if path.suffix not in readers:
        raise InputError(f"{path}: weights of unknown kind; give one of {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path} is missing; put the weights there, or name another file "
                         "(a config's model.pretrained=none starts from random weights)")
    try:
        content = readers[path.suffix](path)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, EOFError, OSError, AttributeError, pickle.UnpicklingError,
            zipfile.BadZipFile, safetensors.SafetensorError, RuntimeError, MemoryError, OverflowError) as error:
        raise InputError(f"{path}: not readable as weights ({error}); fetch the file again") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a mapping of names to arrays")
    return dict(content)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("data.pkl")]
            if not roots:
                raise InputError(f"{path}: a zip file without data.pkl is no file of torch weights")
            storages = _ZipStorages(archive, roots[0])
            return _Unpickler(io.BytesIO(archive.read(roots[0] + "data.pkl")), path, storages).load()
    return _read_legacy(path)


def _read_legacy(path: Path) -> Any:
    """The form of torch before 1.6: pickles behind one another, then the raw storages."""
    with open(path, "rb") as file:
        storages = _DeferredStorages()
        if _Unpickler(file, path, storages).load() != _LEGACY_MAGIC:
            raise InputError(f"{path}: does not begin like a file of torch weights")
        for _ in ("protocol", "system"):
            _Unpickler(file, path, storages).load()
        content = _Unpickler(file, path, storages).load()
        for key in _Unpickler(file, path, storages).load():
            count = int.from_bytes(file.read(8), "little")
            storages.fill(key, file, count)
        return _resolved(content)


class _ZipStorages:
    def __init__(self, archive: zipfile.ZipFile, root: str):
        self._archive, self._root = archive, root
        self._loaded: dict[str, np.ndarray] = {}

    def get(self, key: str, dtype: type, count: int) -> np.ndarray:
        if key not in self._loaded:
            self._loaded[key] = np.frombuffer(self._archive.read(f"{self._root}data/{key}"), dtype)
        return self._loaded[key]


class _DeferredStorages:
    """Storages of the old form, which follow behind the tensors that look into them."""

    def __init__(self):
        self._arrays: dict[str, np.ndarray] = {}

    def get(self, key: str, dtype: type, count: int) -> np.ndarray:
        if key not in self._arrays:
            self._arrays[key] = np.empty(count, dtype)
        return self._arrays[key]

    def fill(self, key: str, file, count: int) -> None:
        array = self._arrays[key]
        if count != array.size:
            raise ValueError(f"storage {key} has {count} elements instead of {array.size}")
        data = file.read(array.nbytes)
        array[:] = np.frombuffer(data, array.dtype)


class _Tensor:
    """A tensor that looks into a storage; cut out once the storage is filled."""

    def __init__(self, storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> np.ndarray:
        last = self.offset + sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        empty = 0 in self.shape
        if min((self.offset, *self.shape, *self.strides), default=0) < 0 or not (empty or last < self.storage.size):
            raise ValueError(f"a tensor of shape {self.shape} reaches outside its storage of {self.storage.size}")
        strides = [stride * self.storage.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(self.storage[self.offset:], self.shape, strides).copy()


def _resolved(content: Any) -> Any:
    if isinstance(content, _Tensor):
        return content.array()
    if isinstance(content, Mapping):
        return {key: _resolved(value) for key, value in content.items()}
    return [_resolved(value) for value in content] if isinstance(content, list | tuple) else content


def _rebuild_tensor(storage, offset, shape, strides, *_ignored):
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *_ignored):
    return tensor


class _Unpickler(pickle.Unpickler):
    """Knows tensors, storages and ordered dictionaries; everything else is refused by name."""

    _KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    }

    def __init__(self, file, path: Path, storages):
        super().__init__(file)
        self._path, self._storages = path, storages

    def find_class(self, module: str, name: str):
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) in self._KNOWN:
            return self._KNOWN[module, name]
        raise InputError(f"{self._path}: refers to {module}.{name}, which no weights need; the file is refused because "
                         "loading it could run code. Save the bare state_dict and try again")

    def persistent_load(self, reference):
        kind, dtype, key, _, count, *_ = reference
        if kind != "storage" or dtype not in _STORAGES.values():
            raise ValueError(f"unknown reference {kind!r}")
        return self._storages.get(str(key), dtype, int(count))

    def load(self) -> Any:
        content = super().load()
        return content if isinstance(self._storages, _DeferredStorages) else _resolved(content)
