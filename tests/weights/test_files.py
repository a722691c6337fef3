"""Files of weights, written here by hand: torch is not needed to read them, nor to test that."""

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from cfaan_jax import weights
from cfaan_jax.weights import files
from tests.data_prep.checks import check_refused
from tests.models.transplants import small_network

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {np.float32: "FloatStorage", np.float64: "DoubleStorage", np.float16: "HalfStorage",
            ml_dtypes.bfloat16: "BFloat16Storage", np.int64: "LongStorage", np.int32: "IntStorage",
            np.int16: "ShortStorage", np.int8: "CharStorage", np.uint8: "ByteStorage", np.bool_: "BoolStorage"}


@pytest.fixture
def torch_modules(monkeypatch):
    """Stand-ins, so that a pickle can name what torch's own pickles name."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    utils._rebuild_tensor_v2 = type("_rebuild_tensor_v2", (), {"__module__": "torch._utils"})  # named, never called
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


Storage = collections.namedtuple("Storage", "key array")


class Tensor:
    """A view of a storage, as torch pickles it."""

    def __init__(self, storage: Storage, shape, strides, offset: int = 0):
        self.arguments = (storage, offset, tuple(shape), tuple(strides), False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def __init__(self, file, legacy: bool):
        super().__init__(file, protocol=2)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, item):
        if not isinstance(item, Storage):
            return None
        self.storages[item.key] = item.array
        kind = getattr(sys.modules["torch"], STORAGES[item.array.dtype.type])
        reference = ("storage", kind, item.key, "cpu", item.array.size)
        return (*reference, None) if self.legacy else reference


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """One contiguous storage for each array."""
    return collections.OrderedDict(
        (name, Tensor(Storage(str(number), array.reshape(-1)), array.shape,
                      [stride // array.itemsize for stride in array.strides]))
        for number, (name, array) in enumerate(arrays.items()))


def write_zip(path, content) -> None:
    """The form since torch 1.6."""
    data = io.BytesIO()
    pickler = Pickler(data, legacy=False)
    pickler.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data.getvalue())
        archive.writestr("archive/version", "3\n")
        for key, array in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())


def write_legacy(path, content) -> None:
    """The form before torch 1.6."""
    with open(path, "wb") as file:
        for head in (MAGIC, 1001, {"little_endian": True}):
            pickle.dump(head, file, protocol=2)
        pickler = Pickler(file, legacy=True)
        pickler.dump(content)
        pickle.dump(list(pickler.storages), file, protocol=2)
        for array in pickler.storages.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())


WRITERS = {"new.pth": write_zip, "old.pth": write_legacy, "new.pt": write_zip}
OTHERS = {"a.npz": lambda path, arrays: np.savez(path, **arrays),
          "a.safetensors": lambda path, arrays: safetensors.numpy.save_file(arrays, path)}


def write(path, arrays: dict[str, np.ndarray], **more) -> None:
    """A file of any form; `more` lies beside the weights where the form has room for it."""
    if path.name in WRITERS:
        WRITERS[path.name](path, {"model": tensors(arrays), **more} if more else tensors(arrays))
    else:
        OTHERS[path.name](path, arrays)


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {str(np.dtype(kind)): rng.integers(0, 2, (2, 3)).astype(kind) for kind in STORAGES}
    return found | {"scalar": np.array(7, np.int64), "empty": np.zeros((0, 4), np.float32)}


def assert_same(found, expected) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("name", WRITERS | OTHERS)
def test_files_hold_what_was_written(tmp_path, torch_modules, name):
    expected = {key: array for key, array in arrays().items() if name in WRITERS or key != "bfloat16"}
    write(tmp_path / name, expected)
    found = files.read(tmp_path / name)
    assert_same(found if name in WRITERS else {key: found[key] for key in expected}, expected)


@pytest.mark.parametrize("name", WRITERS)
def test_tensors_may_share_a_storage_and_lie_across_it(tmp_path, torch_modules, name):
    whole = np.arange(12, dtype=np.float32)
    storage = Storage("0", whole)
    WRITERS[name](tmp_path / name, {"a": Tensor(storage, (2, 3), (3, 1), 6), "b": Tensor(storage, (3, 4), (1, 3))})
    assert_same(files.read(tmp_path / name), {"a": whole[6:].reshape(2, 3), "b": whole.reshape(4, 3).T})


@pytest.mark.parametrize("name", WRITERS | OTHERS)
def test_a_network_loads_from_every_form(tmp_path, torch_modules, name):
    model = small_network("c2d")
    expected = weights.to_torch(small_network("c2d", seed=1))
    write(tmp_path / name, expected, optimizer={"lr": 1e-4, "steps": [1, 2]})
    weights.load_torch(model, tmp_path / name)
    assert_same(weights.to_torch(model), expected)


class Malicious:
    """Runs a program when it is unpickled by anything that lets it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", WRITERS)
def test_code_in_a_file_is_refused_and_not_run(tmp_path, torch_modules, name):
    WRITERS[name](tmp_path / name, {"weight": Malicious(tmp_path / "ran")})
    check_refused(r"system.*could run code", files.read, tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("module, attribute", [
    ("builtins", "eval"), ("builtins", "getattr"), ("torch", "load"), ("numpy", "load"), ("collections", "Counter"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__")])
def test_names_that_weights_do_not_need_are_refused(tmp_path, module, attribute):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", f"c{module}\n{attribute}\n.".encode())
    check_refused(f"{module}.{attribute}", files.read, tmp_path / "a.pth")


def test_object_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.array([Malicious(tmp_path / "ran")], dtype=object))
    check_refused("not readable", files.read, tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("shape, strides, offset", [
    ((3, 5), (5, 1), 0), ((2, 3), (3, 1), 7), ((2,), (100,), 0), ((2,), (1,), -1), ((2,), (-1,), 5),
    ((-1,), (1,), 0), ((2**40,), (1,), 0), ((2,), (2**62,), 0)])
def test_tensors_that_reach_outside_their_storage_are_refused(tmp_path, torch_modules, name, shape, strides, offset):
    WRITERS[name](tmp_path / name, {"weight": Tensor(Storage("0", np.zeros(12, np.float32)), shape, strides, offset)})
    check_refused(name, files.read, tmp_path / name)


@pytest.mark.parametrize("name", WRITERS | OTHERS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, torch_modules, name, share):
    path = tmp_path / name
    write(path, {"weight": np.arange(1000, dtype=np.float32), "bias": np.arange(10, dtype=np.float32)})
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])
    check_refused(name, files.read, path)


def test_a_storage_of_another_length_is_refused(tmp_path, torch_modules):
    write_zip(tmp_path / "whole.pth", tensors({"weight": np.zeros(12, np.float32)}))
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", whole.read("archive/data.pkl"))
        archive.writestr("archive/data/0", np.zeros(5, np.float32).tobytes())
    check_refused("a.pth", files.read, tmp_path / "a.pth")


@pytest.mark.parametrize("name, content, message", [
    ("a.onnx", b"", "unknown kind"), ("missing.pth", None, "is missing"), ("a.pth", b"text", "a.pth"),
    ("a.safetensors", b"text", "not readable"), ("a.npz", b"text", "not readable"),
    ("a.pth", pickle.dumps([1, 2]), "a.pth")])
def test_other_files_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    check_refused(message, files.read, tmp_path / name)


def test_a_list_is_no_mapping(tmp_path, torch_modules):
    write_zip(tmp_path / "a.pth", [1, 2])
    check_refused("holds a list", files.read, tmp_path / "a.pth")
