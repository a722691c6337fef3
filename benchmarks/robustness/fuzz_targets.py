"""What `fuzz` calls: for each reader of files or text of users, first inputs, and one call with any bytes.

A call returns, or raises what its reader documents; `fuzz` counts everything else.
"""

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import safetensors.numpy
import scipy.io

from cfaan_jax import main
from cfaan_jax.data import example
from cfaan_jax.data.index import Index, load_index
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import MANIFEST, load_manifest
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, decode, encode
from cfaan_jax.errors import InputError
from cfaan_jax.experiment import results_file
from cfaan_jax.experiment.config import load_config
from cfaan_jax.experiment.fields import SECTIONS, check
from cfaan_jax.experiment.metric_log import earlier_rows
from cfaan_jax.metrics import corrections
from cfaan_jax.report import curves
from cfaan_jax.runtime import matlab
from cfaan_jax.weights import files
from data_prep.datasets import mars, mars_dl

_TYPES = ("<i8", "<i4", "<u8", "|u1", "<f8", "<U1", "<U4", "<U31", "|b1")


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        share: of the executions of a campaign.
        make: (an empty folder) -> (first inputs, the call).
    """

    share: float
    make: Callable[[Path], tuple[Sequence[bytes], Callable[[bytes], None]]]


def _record() -> TrackletRecord:
    file = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    whole = np.tile([0, 8, 0, 8], (2, 1))
    return TrackletRecord("a", "train", 0, 1, 1, (file, file), whole, whole, ("none",) * 2, (0, 0), ("", ""))


def _records(folder: Path):
    """The payload of a record, whose checksums fit."""
    shard = folder / "a-train.tfrecord-00000-of-00001"

    def call(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            encode(decode(data))
        shard.write_bytes(example.pack_tfrecord(data))
        rebuild_index(folder, "train")
        load_index(folder, "train")

    return [encode(_record()), example.serialize({"name": [b"a"], "pid": [1]})], call


def _shard(folder: Path):
    def call(data: bytes) -> None:
        (folder / "shard").write_bytes(data)
        for _ in example.read_file(folder / "shard"):
            pass

    payload = encode(_record())
    return [example.pack_tfrecord(payload) * 2, example.pack_tfrecord(b"")], call


def _index(folder: Path):
    """An .npz file of any bytes, or one column of a good one replaced."""
    (folder / "a-train.tfrecord-00000-of-00001").write_bytes(example.pack_tfrecord(encode(_record())))
    path = rebuild_index(folder, "train")
    counts = {"train": {"tracklets": 1}}
    (folder / MANIFEST).write_text(json.dumps({
        "schema_version": SCHEMA_VERSION, "dataset": "tiny", "note": "", "aligned": False, "counts": counts,
        "settings": {}}))
    whole, names = path.read_bytes(), [field.name for field in fields(Index)]
    with np.load(path) as arrays:
        good = {name: arrays[name] for name in arrays.files}

    def call(data: bytes) -> None:
        if data[:1] < b"\x80":
            path.write_bytes(data[1:])
        else:
            kind = np.dtype(_TYPES[(data[1:2] or b"\0")[0] % len(_TYPES)])
            values = np.frombuffer(data[3:3 + len(data[3:]) // kind.itemsize * kind.itemsize], kind)
            wide = (data[2:3] or b"\0")[0] % 6
            values = values.reshape(-1, wide) if wide > 1 and values.size % wide == 0 else values
            np.savez(path, **good | {names[data[0] % len(names)]: values})
        found = RecordSet.open(folder, "train")
        for i in range(len(found)):
            found.image_size(i), found.rectangles(i), found.candidates(i), found.record(i), found.image(i, 0)

    columns = [bytes([8 * len(names) + i, _TYPES.index(good[name].dtype.str), (*good[name].shape, 0)[1]])
               + good[name].tobytes() for i, name in enumerate(names)]
    return [b"\0" + whole, *columns], call


def _info(folder: Path) -> None:
    """The `info` folder of a set of two tracklets a part, and the folders of its images."""
    for part, stem in (("train", "0001C{}T0001"), ("test", "0002C{}T0001")):
        names = [[f"{stem.format(camera)}F{frame:03d}.jpg" for frame in (1, 2)] for camera in (1, 2)]
        pid = int(stem[:4])
        mars.write_info(folder / "info", mars.list_files(part, names, [pid, pid], [1, 2]))
        flat = [name for own in names for name in own]
        mars.write_info(folder / "info", mars_dl.mask_file(part, flat, np.tile([0, 4, 0, 4], (4, 1))))
        (folder / f"bbox_{part}" / stem[:4]).mkdir(parents=True)
    mars.write_info(folder / "info", mars.query_file([0]))


def _in_info(name: str):
    """A file of MARS-DL, whose others are good."""
    def make(folder: Path):
        _info(folder)
        path = folder / "info" / name
        first = path.read_bytes()

        def call(data: bytes) -> None:
            path.write_bytes(data)
            mars_dl.open(folder)

        return [first], call
    return make


def _corrections(folder: Path):
    def call(data: bytes) -> None:
        (folder / "a.csv").write_bytes(data)
        corrections.read(folder / "a.csv").apply(np.arange(4), np.array([5, 6, 7, 0]))

    return [b"track_id,pid,second_pid\n0,5,6\n1,-1,-1\n",
            b'\xef\xbb\xbftrack_id, second_pid, pid, note\r\n"2",7,0,"a"\r\n'], call


def _matlab(folder: Path):
    def call(data: bytes) -> None:
        (folder / "a.mat").write_bytes(data)
        matlab.read_integers(folder / "a.mat", "t")

    return [_mat(options, kind) for options in ({}, {"do_compression": True}, {"format": "4"})
            for kind in ("f8", "i2")], call


def _mat(options: dict, kind: str) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"s": np.eye(2), "t": np.arange(6, dtype=kind).reshape(2, 3)}, **options)
    return file.getvalue()


def _overrides(_: Path):
    """Words of a command line, one a line."""
    def call(data: bytes) -> None:
        words = ["--config=mars", "--workdir=w", "--config.data.records=r",
                 *data.decode("utf-8", "surrogateescape").split("\n")]
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            try:
                _, config = main.parse(words)
            except SystemExit as end:  # after --help
                raise InputError("refused") from (None if end.code == 0 else end)
        check(config)

    words = ["--config.model.width=16", "--config.data.image_size=(64,32)", "--config.eval.protocols=all",
             "--config.optim.learning_rate=1e-3", "--mode=evaluate", "--config.train.profile=1,2"]
    return [word.encode() for word in words] + ["\n".join(words).encode()], call


def _torch(folder: Path):
    """Any bytes as an old .pth, or as the pickle in a new one."""
    path = folder / "a.pth"
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    tensor = rebuild + storage + b"K\x00K\x03K\x04\x86K\x04K\x01\x86\x89}tR"
    content = b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00a" + tensor + b"u."

    def call(data: bytes) -> None:
        if data[:1] < b"\x80":
            path.write_bytes(data[1:])
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a/data.pkl", data[1:])
                archive.writestr("a/data/0", bytes(48))
        for array in files.read(path).values():
            np.asarray(array).sum() if isinstance(array, np.ndarray) else None

    heads = b"".join(pickle.dumps(head, 2) for head in (files._LEGACY_MAGIC, 1001, {}))
    old = heads + content.replace(b"tQ", b"NtQ") + pickle.dumps(["0"], 2) + (12).to_bytes(8, "little") + bytes(48)
    return [b"\x00" + old, b"\xff" + content], call


def _safetensors(folder: Path):
    def call(data: bytes) -> None:
        (folder / "a.safetensors").write_bytes(data)
        files.read(folder / "a.safetensors")

    return [safetensors.numpy.save({"a": np.zeros((2, 3), np.float32), "b": np.arange(2)})], call


def _workdir(folder: Path):
    """The files of a run that are read again."""
    readers = (lambda: results_file.read_rows(folder / "results.json"), lambda: load_config(folder),
               lambda: load_manifest(folder), lambda: curves.training(folder / "metrics.csv", folder / "a.svg"))
    names = ("results.json", "config.json", MANIFEST, "metrics.csv")

    def call(data: bytes) -> None:
        which = (data[:1] or b"\0")[0] % len(names)
        (folder / names[which]).write_bytes(data[1:])
        if which == 3:
            earlier_rows(folder / "metrics.csv", 10, 10)
            curves._read(folder / "metrics.csv")
        else:
            readers[which]()

    row = {"aligned": False, **dict.fromkeys((*results_file.METRICS, "seed", "gallery_size", "num_valid"), 1),
           **dict.fromkeys(("model", "weights", "protocol", "clips", "distance", "dataset", "note"), "a")}
    config = dict.fromkeys(SECTIONS, {"a": [1, 2]})
    return [b"\0" + json.dumps([row]).encode(), b"\1" + json.dumps(config).encode(),
            b"\2" + json.dumps({"schema_version": 1, "counts": {}}).encode(),
            b"\3step,epoch,loss,accuracy,learning_rate,mAP,rank1\n1,1,0.5,0.5,0.1,,\n"], call


TARGETS = {
    "matlab": Target(0.25, _matlab), "shard": Target(0.22, _shard), "corrections": Target(0.22, _corrections),
    "safetensors": Target(0.1, _safetensors), "workdir": Target(0.08, _workdir), "torch": Target(0.05, _torch),
    "records": Target(0.025, _records), "masks": Target(0.025, _in_info("mask_info.csv")),
    "names": Target(0.02, _in_info("train_name.txt")), "index": Target(0.008, _index),
    "overrides": Target(0.002, _overrides)}
