"""Files of weights made to take all memory, or for ever."""

import io
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from cfaan_jax.errors import InputError
from cfaan_jax.weights import files, pickled
from tests.data_prep.checks import check_refused
from tests.weights.test_files import MAGIC, WRITERS, Storage, Tensor, torch_modules  # noqa: F401

TWICE = b"h\x00h\x00"
LAUGHS = b"".join(b"(" + b"h\x00" * 9 + end + b"q\x00" for end in (b"t",) * 40)  # 9 ** 40 leaves, a part of each shared
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n("
MILLION_DIGITS = b"\x8b" + struct.pack("<i", 1 << 19) + b"\x7f" * (1 << 19)

# Pickles as text of the machine; what is harmless gives nothing, or what lies beside it.
PICKLES = {
    "a memo of 16 GiB": b"}r\xff\xff\xff\x7f.",
    "text of 4 GiB": b"X\xff\xff\xff\xffab.",
    "bytes of 4 EiB": b"\x8e" + struct.pack("<Q", 1 << 62) + b"ab.",
    "a number of 2 GiB": b"\x8b\xff\xff\xff\x7fab.",
    "a frame of 4 EiB": b"\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "laughs in a mapping": b"})q\x00" + LAUGHS + b"U\x01ah\x00s.",
    "laughs as a key": b"})q\x00" + LAUGHS + b"h\x00K\x01s.",
    "laughs as a name": b")q\x00" + LAUGHS + TWICE + b"\x93.",
    "laughs as a storage's key": b")q\x00" + LAUGHS + STORAGE.replace(b"X\x01\x00\x00\x000", b"h\x00") + b".",
    "laughs as a kind of reference": b")q\x00" + LAUGHS + STORAGE.replace(b"X\x07\x00\x00\x00storage", b"h\x00") + b".",
    "laughs as a shape": b")q\x00" + LAUGHS + REBUILD + STORAGE + b"K\x00" + TWICE + b"\x89}tR.",
    "laughs of mappings": b"}q\x00" + b"".join(
        b"}(" + b"".join(b"U\x01" + bytes([letter]) + b"h\x00" for letter in b"abcdefghi") + b"uq\x00"
        for _ in range(40)) + b".",
    "sizes of a million digits": REBUILD + STORAGE + b"K\x00" + (b"(" + 9 * MILLION_DIGITS + b"t") * 2 + b"\x89}tR.",
    "a mapping in itself": b"}q\x00U\x01ah\x00s.",
    "mappings 5,000 deep": b"}" + b"U\x01a}" * 5000 + b"s" * 5000 + b".",
    "tuples 20,000 deep": b"}U\x01a" + b")" + b"\x85" * 20_000 + b"s.",
    "a long list in many calls": (b"](" + b"U\x01aK\x01\x86" * 5000 + b"eq\x00"
                                  + b"ccollections\nOrderedDict\nh\x00\x85R" * 999 + b"."),
    "too many steps": b"}" * 40_000 + b".",
    "marks that are not there": b"}uuu.", "a stack that is not there": b"000.", "a call of a number": b"K\x01)R.",
    "attributes of a function": b"ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__)s\x86b."}


@pytest.fixture
def bounded():
    """Fails where more is held at a time than a file of these sizes can need."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_ask_for_all_memory_are_refused_or_harmless(tmp_path, monkeypatch, bounded, name):
    monkeypatch.setattr(pickled, "_MAX_STEPS", 1 << 15)
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + PICKLES[name])
        archive.writestr("archive/data/0", bytes(48))
    try:
        found = files.read(path)
    except InputError as error:
        assert "a.pth" in str(error) and len(str(error)) < 1000
    else:
        assert set(found) <= set("abcdefghi")
    assert files._rebuild_tensor.__defaults__ is None


def test_what_no_weights_need_is_left_out_of_a_file(tmp_path, torch_modules):  # noqa: F811
    content = {"a": Tensor(Storage("0", np.zeros(3, np.float32)), (3,), (1,)), "b": [1, 2], "c": None, 4: 5, "d": {}}
    WRITERS["new.pth"](tmp_path / "a.pth", content)
    assert list(files.read(tmp_path / "a.pth")) == ["a", "d"]


@pytest.mark.parametrize("name", ["new.pth", "old.pth"])
@pytest.mark.parametrize("shape, strides", [((1 << 40,), (0,)), ((1 << 20, 1 << 20), (0, 0)), ((7, 6), (1, 1))])
def test_tensors_larger_than_their_storage_are_refused(tmp_path, torch_modules, bounded, name, shape, strides):  # noqa: F811
    WRITERS[name](tmp_path / name, {"weight": Tensor(Storage("0", np.zeros(12, np.float32)), shape, strides)})
    check_refused(name, files.read, tmp_path / name)


@pytest.mark.parametrize("name", ["new.pth", "old.pth"])
def test_many_views_of_one_storage_take_no_memory_of_their_own(tmp_path, torch_modules, bounded, name):  # noqa: F811
    storage = Storage("0", np.arange(1 << 20, dtype=np.float32))
    WRITERS[name](tmp_path / name, {f"weight{i}": Tensor(storage, (1 << 20,), (1,)) for i in range(200)})
    found = files.read(tmp_path / name)
    assert len(found) == 200 and found["weight199"][-1] == (1 << 20) - 1
    assert np.shares_memory(found["weight0"], found["weight1"])


def test_a_storage_larger_than_the_file_is_refused(tmp_path, bounded):
    reference = STORAGE.replace(b"K\x0c", b"\x8a\x06" + (1 << 40).to_bytes(6, "little"))
    tensors = b"}U\x01a" + REBUILD + reference + b"K\x00\x8a\x06" + (1 << 40).to_bytes(6, "little") + \
        b"\x85K\x01\x85\x89}tRs."
    with open(tmp_path / "a.pth", "wb") as file:
        for part in (MAGIC, 1001, {}, tensors, ["0"]):
            file.write(b"\x80\x02" + part if isinstance(part, bytes) else pickle.dumps(part, 2))
        file.write((1 << 40).to_bytes(8, "little") + bytes(48))
    check_refused("a.pth", files.read, tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.npz"])
def test_zip_bombs_are_refused_unopened(tmp_path, bounded, name):
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0.npy", bytes(8 << 20))
    check_refused(f"{name}: .*it unpacks to 8,388,", files.read, tmp_path / name)


def test_entries_that_share_their_bytes_are_refused(tmp_path, bounded):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(1 << 20))
        archive.filelist += [archive.NameToInfo["archive/data/0"]] * 100
    check_refused("a.pth: .*it unpacks to 105,", files.read, tmp_path / "a.pth")


def test_an_array_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("a.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "<f8", "fortran_order": False, "shape": (1 << 30,)})
        entry.write(bytes(80))
    check_refused("a.npz", files.read, tmp_path / "a.npz")


def test_plain_values_come_back_in_any_protocol():
    values = {"a": (1, 2.5, None, True, "text", b"bytes", [3])}
    assert pickled.load(io.BytesIO(pickle.dumps(values, 4)), None, None) == values
