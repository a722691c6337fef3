"""Tracklets as TFRecords: what a record holds, and random access to single frames through an index.

A folder of records holds, for each split, shards `<dataset>-<split>.tfrecord-00000-of-00007` and `index-<split>.npz`, and
once `manifest.json` (how it was made) and the description by which TensorFlow Datasets reads it. Payloads lie
uncompressed in the shards, so that the index can name the place of every frame. Rebuild a lost index with

    python -m cfaan_jax.data.records FOLDER
"""

import argparse
import io
import json
import mmap
import os
import sys
import threading
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cfaan_jax.data import example
from cfaan_jax.errors import InputError
from cfaan_jax.progress import Progress

SCHEMA_VERSION = 1
SPLITS = ("train", "query", "gallery")
MANIFEST = "manifest.json"

_BUILD_AGAIN = "run data_prep/build_tfrecords.py again: it makes only what is missing"


@dataclass(frozen=True)
class TrackletRecord:
    """One tracklet, as one `tf.train.Example`.

    Attributes:
        name: unique in the data set.
        split: one of `SPLITS`.
        track_id: row in the data set's own list, from 0.
        pid, camid: identity and camera as the data set numbers them (MARS: pid -1 is junk, 0 a distractor).
        frames: JPEG files, in temporal order.
        rectangles: int32 `[n, 4]`, (y0, y1, x0, x1): where the stored image holds real pixels; the rest is padding.
        boxes: int32 `[n, 4]`: what was cut, in pixels of the source image.
        actions: what Re-Detect and Link did to each frame, see `data_prep.alignment`; "none" without it.
        sources: names of the source frames.
    """

    name: str
    split: str
    track_id: int
    pid: int
    camid: int
    frames: tuple[bytes, ...]
    rectangles: np.ndarray
    boxes: np.ndarray
    actions: tuple[str, ...]
    sources: tuple[str, ...]


def encode(record: TrackletRecord) -> bytes:
    """Serialises a record; the same record gives the same bytes.

    Raises:
        ValueError: the per-frame fields differ in length, or there is no frame.
    """
    lengths = {len(getattr(record, name)) for name in ("frames", "rectangles", "boxes", "actions", "sources")}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"tracklet {record.name}: fields of different or no length: {sorted(lengths)}")
    return example.serialize({
        "name": [record.name.encode()],
        "split": [record.split.encode()],
        "track_id": [int(record.track_id)],
        "pid": [int(record.pid)],
        "camid": [int(record.camid)],
        "frames": list(record.frames),
        "rectangles": np.asarray(record.rectangles, np.int64).ravel().tolist(),
        "boxes": np.asarray(record.boxes, np.int64).ravel().tolist(),
        "actions": [action.encode() for action in record.actions],
        "sources": [source.encode() for source in record.sources],
    })


def decode(payload: bytes) -> TrackletRecord:
    """Reads a serialised record; ValueError when it is none."""
    features = example.parse(payload)
    try:
        return TrackletRecord(
            name=features["name"][0].decode(), split=features["split"][0].decode(),
            track_id=features["track_id"][0], pid=features["pid"][0], camid=features["camid"][0],
            frames=tuple(features["frames"]),
            rectangles=np.array(features["rectangles"], np.int32).reshape(-1, 4),
            boxes=np.array(features["boxes"], np.int32).reshape(-1, 4),
            actions=tuple(action.decode() for action in features["actions"]),
            sources=tuple(source.decode() for source in features["sources"]))
    except (KeyError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tracklet record: {error!r}") from None


def load_manifest(directory: str | Path) -> dict:
    """How a folder of records was made; written by `data_prep.writer`.

    Raises:
        InputError: there is none, or it is of another version.
    """
    path = Path(directory) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {directory} holds no finished records; make them with "
                         "data_prep/build_tfrecords.py, or correct config.data.records") from None
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error}); {_BUILD_AGAIN}") from None
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: schema version {manifest.get('schema_version')!r}, this program reads "
                         f"{SCHEMA_VERSION}; build the records again into another folder")
    return manifest


@dataclass(frozen=True)
class Index:
    """Where everything lies in the shards of one split: N tracklets, F frames, one array a column.

    Frames of tracklet i are rows frame_start[i] to frame_start[i + 1] of the frame columns; offsets are bytes from the
    start of the shard.
    """

    shard_names: np.ndarray  # [S] file names
    shard_sizes: np.ndarray  # [S] bytes, to recognise a shard that is not the one the index was made from
    shards: np.ndarray  # [N] position in shard_names
    record_offsets: np.ndarray  # [N] of the payload
    record_lengths: np.ndarray  # [N]
    names: np.ndarray  # [N]
    track_ids: np.ndarray  # [N]
    pids: np.ndarray  # [N]
    camids: np.ndarray  # [N]
    frame_start: np.ndarray  # [N + 1]
    frame_offsets: np.ndarray  # [F]
    frame_lengths: np.ndarray  # [F]
    image_sizes: np.ndarray  # [F, 2] height, width
    rectangles: np.ndarray  # [F, 4]


def index_path(directory: str | Path, split: str) -> Path:
    """Where the index of a split lies."""
    return Path(directory) / f"index-{split}.npz"


def build_index(directory: str | Path, split: str) -> Path:
    """Reads all shards of a split, checks them, and writes their index; the same shards give the same index.

    Raises:
        InputError: shards are missing or damaged.
    """
    shards = _complete_shards(Path(directory), split)
    rows: dict[str, list] = {field.name: [] for field in fields(Index)}
    rows["frame_start"].append(0)
    with Progress(f"index of {split}", len(shards)) as progress:
        for number, shard in enumerate(shards):
            rows["shard_names"].append(shard.name)
            rows["shard_sizes"].append(shard.stat().st_size)
            for position, (offset, payload) in enumerate(example.read_file(shard)):
                _add_record(rows, number, offset, payload, f"{shard}: record {position}")
            progress.advance()
    wide = {"image_sizes": 2, "rectangles": 4}
    text = ("shard_names", "names")
    columns = {name: np.array(values, np.str_ if name in text else np.int64).reshape(
        (-1, wide[name]) if name in wide else -1) for name, values in rows.items()}
    path = index_path(directory, split)
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "wb") as file:
        np.savez(file, schema_version=SCHEMA_VERSION, **columns)
    os.replace(unfinished, path)
    return path


def _add_record(rows: dict[str, list], shard: int, offset: int, payload: bytes, where: str) -> None:
    try:
        record = decode(payload)
        sizes = [Image.open(io.BytesIO(frame)).size[::-1] for frame in record.frames]
    except (ValueError, UnidentifiedImageError) as error:
        raise InputError(f"{where}: {error}; delete the file and {_BUILD_AGAIN}") from None
    for name, value in (("shards", shard), ("record_offsets", offset), ("record_lengths", len(payload)),
                        ("names", record.name), ("track_ids", record.track_id), ("pids", record.pid),
                        ("camids", record.camid)):
        rows[name].append(value)
    place = 0
    for frame in record.frames:  # stored one behind the other, so each is looked for behind the last
        place = payload.index(frame, place)
        rows["frame_offsets"].append(offset + place)
        rows["frame_lengths"].append(len(frame))
        place += len(frame)
    rows["image_sizes"].extend(sizes)
    rows["rectangles"].extend(record.rectangles.tolist())
    rows["frame_start"].append(rows["frame_start"][-1] + len(record.frames))


def _complete_shards(directory: Path, split: str) -> list[Path]:
    shards = sorted(directory.glob(f"*-{split}.tfrecord-*-of-*"))
    totals = {shard.name.rpartition("-of-")[2] for shard in shards}
    if len(totals) != 1 or len(shards) != int(next(iter(totals))):
        raise InputError(f"{directory}: {len(shards)} shards of split {split!r}, expected "
                         f"{', '.join(sorted(totals)) or 'at least one'}; {_BUILD_AGAIN}")
    return shards


class RecordSet:
    """The tracklets of one split, with random access to single frames; safe to use from several threads.

    Attributes:
        directory, split: where they came from.
        names: list of tracklet names.
        track_ids, pids, camids, lengths: int64 `[N]`; lengths are numbers of frames.
    """

    def __init__(self, directory: Path, split: str, index: Index):
        self.directory, self.split, self._index = directory, split, index
        self.names = index.names.tolist()
        self.track_ids, self.pids, self.camids = index.track_ids, index.pids, index.camids
        self.lengths = np.diff(index.frame_start)
        self._maps: dict[int, mmap.mmap] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: str | Path, split: str) -> "RecordSet":
        """Opens a split.

        Raises:
            InputError: the index is missing or damaged, or a shard is missing or not the one that was indexed.
        """
        directory, path = Path(directory), index_path(directory, split)
        load_manifest(directory)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                index = Index(**{field.name: arrays[field.name] for field in fields(Index)})
        except FileNotFoundError:
            raise InputError(f"{path} is missing; make it with: python -m cfaan_jax.data.records {directory}") from None
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged ({error}); make it again with: python -m cfaan_jax.data.records "
                             f"{directory}") from None
        for name, size in zip(index.shard_names.tolist(), index.shard_sizes.tolist(), strict=True):
            shard = directory / name
            if not shard.is_file():
                raise InputError(f"{shard} is missing; {_BUILD_AGAIN}")
            if shard.stat().st_size != size:
                raise InputError(f"{shard} has {shard.stat().st_size} bytes, its index says {size}: cut short, or not "
                                 f"the file that was indexed; delete it and {_BUILD_AGAIN}, or make the index again with: "
                                 f"python -m cfaan_jax.data.records {directory}")
        return cls(directory, split, index)

    def __len__(self) -> int:
        return len(self.names)

    def shard(self, i: int) -> Path:
        """The file that tracklet i lies in."""
        return self.directory / str(self._index.shard_names[self._index.shards[i]])

    def image_sizes(self, i: int) -> np.ndarray:
        """Height and width of the stored frames of tracklet i, int64 `[n, 2]`."""
        return self._index.image_sizes[self._rows(i)]

    def rectangles(self, i: int) -> np.ndarray:
        """Rectangles of real pixels of tracklet i in its stored frames, int64 `[n, 4]`."""
        return self._index.rectangles[self._rows(i)]

    def frame(self, i: int, k: int) -> bytes:
        """The JPEG file of frame k of tracklet i; checksums are not looked at, see `record`."""
        if not 0 <= k < self.lengths[i]:
            raise IndexError(f"tracklet {self.names[i]} has {self.lengths[i]} frames, asked for frame {k}")
        row = self._index.frame_start[i] + k
        offset = self._index.frame_offsets[row]
        return self._map(i)[offset:offset + self._index.frame_lengths[row]]

    def record(self, i: int) -> TrackletRecord:
        """The whole record of tracklet i, its checksums verified.

        Raises:
            InputError: it is damaged.
        """
        offset, length = self._index.record_offsets[i], self._index.record_lengths[i]
        start, end = offset - example.HEADER_BYTES, offset + length + example.FOOTER_BYTES
        where = f"{self.shard(i)}: tracklet {self.names[i]}"
        return decode(example.unframe(self._map(i)[start:end], where))

    def _rows(self, i: int) -> slice:
        return slice(self._index.frame_start[i], self._index.frame_start[i + 1])

    def _map(self, i: int) -> mmap.mmap:
        number = int(self._index.shards[i])
        with self._lock:
            if number not in self._maps:
                with open(self.shard(i), "rb") as file:
                    self._maps[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return self._maps[number]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.data.records",
                                     description="Rebuilds the indexes of a folder of records from its shards.")
    parser.add_argument("directory", help="folder written by data_prep/build_tfrecords.py")
    directory = parser.parse_args().directory
    try:
        manifest = load_manifest(directory)
        for split in manifest["counts"]:
            print(build_index(directory, split))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
