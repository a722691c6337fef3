"""Tracklets as TFRecords: what a record holds, and random access to single frames through an index.

A folder of records holds, for each split, shards `<dataset>-<split>.tfrecord-00000-of-00007` and `index-<split>.npz`,
and once `manifest.json` (how it was made) and the description by which TensorFlow Datasets reads it. Payloads lie
uncompressed in the shards, so that the index can name the place of every frame. A lost index is rebuilt by

    python -m cfaan_jax.data.records --rebuild_index FOLDER
"""

import argparse
import mmap
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from cfaan_jax.data import example, index_columns
from cfaan_jax.data.images import decoded, size_of
from cfaan_jax.errors import InputError
from cfaan_jax.files import from_json, read_npz, written_whole
from cfaan_jax.progress import Progress

SCHEMA_VERSION = 1
SPLITS = ("train", "query", "gallery")
MANIFEST = "manifest.json"

_BUILD_AGAIN = "run data_prep/build_tfrecords.py again: it makes only what is missing"
_SHARD = re.compile(r"(?P<dataset>.+)-(?P<split>[a-z]+)\.tfrecord-\d{5}-of-(?P<total>\d{5})")
_PER_FRAME = ("frames", "rectangles", "boxes", "actions", "candidates", "sources")


@dataclass(frozen=True, eq=False)
class TrackletRecord:
    """One tracklet of n frames, as one `tf.train.Example` whose features have the names of these fields.

    Attributes:
        name: unique in the data set.
        split: one of `SPLITS`.
        track_id: row in the data set's own list, from 0.
        pid, camid: identity and camera as the data set numbers them (MARS: pid -1 is junk, 0 a distractor).
        frames: JPEG files, in temporal order.
        rectangles: int32 `[n, 4]`, (y0, y1, x0, x1): where the stored image holds real pixels; the rest is padding.
        boxes: int32 `[n, 4]`: what was cut, in pixels of the source image.
        actions: what Re-Detect and Link did to each frame, see `data_prep.alignment`; "none" without it.
        candidates: how many persons it found in each frame; 0 without it.
        sources: names of the source frames.

    Raises:
        ValueError: the fields with one entry a frame differ in length, or there is no frame.
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
    candidates: tuple[int, ...]
    sources: tuple[str, ...]

    def __post_init__(self):
        lengths = {name: len(getattr(self, name)) for name in _PER_FRAME}
        if len(set(lengths.values())) != 1 or not self.frames:
            raise ValueError(f"tracklet {self.name}: fields of different or no length: {lengths}")


def encode(record: TrackletRecord) -> bytes:
    """Serialises a record; the same record gives the same bytes."""
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
        "candidates": [int(count) for count in record.candidates],
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
            candidates=tuple(features["candidates"]),
            sources=tuple(source.decode() for source in features["sources"]))
    except (KeyError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a tracklet record: {error!r}") from None


def load_manifest(directory: str | Path) -> dict:
    """How a folder of records was made; written by `data_prep.writer` when everything else is complete.

    Raises:
        InputError: there is none, or it is of another version.
    """
    path = Path(directory) / MANIFEST
    try:
        manifest = from_json(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} is missing: {directory} holds no finished records; make them with "
                         "data_prep/build_tfrecords.py, or correct config.data.records") from None
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error}); restore it, or build the records again into "
                         "another folder") from None
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        found = manifest.get("schema_version") if isinstance(manifest, dict) else None
        raise InputError(f"{path}: schema version {found!r}, this program reads {SCHEMA_VERSION}; build the records "
                         "again into another folder")
    if not isinstance(manifest.get("counts"), dict) or not isinstance(manifest.get("settings", {}), dict):
        raise InputError(f"{path}: damaged, it says nothing of what lies here; restore it, or build the records again "
                         "into another folder")
    return manifest


@dataclass(frozen=True, eq=False)
class Index:
    """Where everything lies in the S shards of one split, and what is needed without reading them.

    N tracklets, F frames, one array a column; frames of tracklet i are rows `frame_start[i]` to `frame_start[i + 1]` of
    the frame columns; offsets are bytes from the start of the shard.
    """

    shard_names: np.ndarray  # str [S], file names
    shard_sizes: np.ndarray  # int64 [S], bytes: recognises a shard that is not the one the index was made from
    shards: np.ndarray  # int64 [N], position in shard_names
    record_offsets: np.ndarray  # int64 [N], of the payload
    record_lengths: np.ndarray  # int64 [N], of the payload
    names: np.ndarray  # str [N]
    track_ids: np.ndarray  # int64 [N]
    pids: np.ndarray  # int64 [N]
    camids: np.ndarray  # int64 [N]
    frame_start: np.ndarray  # int64 [N + 1]
    frame_offsets: np.ndarray  # int64 [F]
    frame_lengths: np.ndarray  # int64 [F]
    image_sizes: np.ndarray  # int32 [F, 2], height and width
    rectangles: np.ndarray  # int32 [F, 4]
    candidates: np.ndarray  # int32 [F]
    actions: np.ndarray  # uint8 [F], position in action_names
    action_names: np.ndarray  # str [different actions]


def index_path(directory: str | Path, split: str) -> Path:
    """Where the index of a split lies."""
    return Path(directory) / f"index-{split}.npz"


def rebuild_index(directory: str | Path, split: str) -> Path:
    """Reads all shards of a split, checks every byte, and writes their index; the same shards give the same index.

    Raises:
        InputError: shards are missing, or a record is damaged or cut short.
    """
    shards = _find_shards(Path(directory), split)
    rows = []
    with Progress(f"checking and indexing {split}", len(shards)) as progress:
        for number, shard in enumerate(shards):
            for position, (offset, payload) in enumerate(example.read_file(shard)):
                try:
                    rows.append(_index_row(number, offset, payload))
                except ValueError as error:
                    raise InputError(f"{shard}: record {position}: {error}; delete this file and "
                                     f"{_BUILD_AGAIN}") from None
            progress.advance()
    if not rows:
        raise InputError(f"{shards[0]}: an empty file; delete it and {_BUILD_AGAIN}")
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    columns["frame_start"] = np.cumsum(np.concatenate([[0], columns.pop("lengths")]))
    columns["action_names"], codes = np.unique(columns["actions"], return_inverse=True)
    columns["actions"] = codes.astype(np.uint8)
    path = index_path(directory, split)
    with written_whole(path) as file:
        np.savez(file, schema_version=SCHEMA_VERSION, shard_names=np.array([shard.name for shard in shards]),
                 shard_sizes=np.array([shard.stat().st_size for shard in shards], np.int64), **columns)
    return path


def _index_row(shard: int, offset: int, payload: bytes) -> dict[str, np.ndarray]:
    """What one record adds to the columns of the index."""
    record = decode(payload)
    starts, end = [], 0
    for frame in record.frames:  # they lie one behind the other, so each is looked for behind the last
        starts.append(payload.index(frame, end))
        end = starts[-1] + len(frame)
    single = {"shards": shard, "record_offsets": offset, "record_lengths": len(payload), "track_ids": record.track_id,
              "pids": record.pid, "camids": record.camid, "lengths": len(record.frames)}
    return {
        **{name: np.array([value], np.int64) for name, value in single.items()},
        "names": np.array([record.name]),
        "frame_offsets": offset + np.array(starts, np.int64),
        "frame_lengths": np.array([len(frame) for frame in record.frames], np.int64),
        "image_sizes": np.array([size_of(frame) for frame in record.frames], np.int32),
        "rectangles": record.rectangles, "candidates": np.array(record.candidates, np.int32),
        "actions": np.array(record.actions)}


def _find_shards(directory: Path, split: str) -> list[Path]:
    """The shards of a split in order, all of them or an InputError."""
    found = {path.name: match for path in directory.glob(f"*-{split}.tfrecord-*")
             if (match := _SHARD.fullmatch(path.name))}
    series = {(match["dataset"], match["total"]) for match in found.values()}
    if len(series) > 1:
        raise InputError(f"{directory}: shards of split {split} from different runs, such as {min(found)} and "
                         f"{max(found)}; delete those that do not belong here")
    dataset, total = next(iter(series), ("", "00000"))
    names = [f"{dataset}-{split}.tfrecord-{number:05d}-of-{total}" for number in range(int(total))]
    missing = [name for name in names if name not in found]
    if missing or not names:
        raise InputError(f"{directory / missing[0] if missing else directory}: "
                         f"{'this shard is missing' if missing else f'no shard of split {split}'}; {_BUILD_AGAIN}")
    return [directory / name for name in names]


def load_index(directory: str | Path, split: str) -> Index:
    """Reads the index of a split and checks that its shards are there, with the sizes they had.

    Raises:
        InputError: the index is missing or damaged, or a shard is missing or not the one that was indexed.
    """
    directory, path = Path(directory), index_path(directory, split)
    rebuild = f"python -m cfaan_jax.data.records --rebuild_index {directory}"
    shards = _find_shards(directory, split)
    try:
        arrays = read_npz(path)
        version = int(arrays["schema_version"])
        index = Index(**{field.name: arrays[field.name] for field in fields(Index)})
        index_columns.check(index)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; make it with: {rebuild}") from None
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}); make it again with: {rebuild}") from None
    if version != SCHEMA_VERSION or index.shard_names.tolist() != [shard.name for shard in shards]:
        raise InputError(f"{path} is stale, made from other shards than those in the folder; make it again with: "
                         f"{rebuild}")
    for shard, size in zip(shards, index.shard_sizes.tolist(), strict=True):
        if shard.stat().st_size != size:
            raise InputError(f"{shard} has {shard.stat().st_size} bytes, its index says {size}: cut short, or not the "
                             f"file that was indexed; delete it and {_BUILD_AGAIN}, or, if the file is right, make "
                             f"the index again with: {rebuild}")
    return index


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
        self._verified = np.zeros(len(self.names), bool)
        self._maps: dict[int, mmap.mmap] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, directory: str | Path, split: str) -> "RecordSet":
        """Opens a split of finished records.

        Raises:
            InputError: they are not finished, there is no such split, the index is missing or damaged, or a shard is
                missing or not the one that was indexed.
        """
        counts = load_manifest(directory)["counts"]
        if split not in counts:
            raise InputError(f"{directory}: no split {split!r}, only {', '.join(counts)}; the data set has no "
                             "such tracklets")
        index, expected = load_index(directory, split), counts[split]["tracklets"]
        if len(index.names) != expected:
            raise InputError(f"{index_path(directory, split)}: {len(index.names)} tracklets, but the manifest counts "
                             f"{expected}; delete the shard that was cut short and {_BUILD_AGAIN}")
        return cls(Path(directory), split, index)

    def __len__(self) -> int:
        return len(self.names)

    def shard(self, i: int) -> Path:
        """The file that tracklet i lies in."""
        return self.directory / str(self._index.shard_names[self._index.shards[i]])

    def image_sizes(self, i: int) -> np.ndarray:
        """Height and width of the stored frames of tracklet i, int32 `[n, 2]`."""
        return self._index.image_sizes[self._rows(i)]

    def image_size(self, i: int) -> tuple[int, int]:
        """Height and width of the first stored frame of tracklet i; in most data sets those of all frames."""
        height, width = self.image_sizes(i)[0].tolist()
        return height, width

    def rectangles(self, i: int) -> np.ndarray:
        """Rectangles of real pixels of tracklet i in its stored frames, int32 `[n, 4]`."""
        return self._index.rectangles[self._rows(i)]

    def candidates(self, i: int) -> np.ndarray:
        """How many persons were found in each frame of tracklet i, int32 `[n]`; 0 where nothing was detected."""
        return self._index.candidates[self._rows(i)]

    def frame(self, i: int, k: int) -> bytes:
        """The JPEG file of frame k of tracklet i.

        The whole record is read and verified once, when the first of its frames is asked for.

        Raises:
            InputError: it is damaged, or not the one that was indexed.
        """
        if not 0 <= k < self.lengths[i]:
            raise IndexError(f"tracklet {self.names[i]} has {self.lengths[i]} frames, asked for frame {k}")
        if not self._verified[i]:
            self._verify(i)
        row = self._index.frame_start[i] + k
        offset = self._index.frame_offsets[row]
        return self._map(i)[offset:offset + self._index.frame_lengths[row]]

    def image(self, i: int, k: int) -> np.ndarray:
        """Frame k of tracklet i, uint8 `[h, w, 3]`, RGB; InputError when it cannot be decoded."""
        image = decoded(self.frame(i, k))
        if image is None:
            raise InputError(f"{self.shard(i)}: frame {k} of tracklet {self.names[i]} is not a readable JPEG; delete "
                             "this shard and run data_prep/build_tfrecords.py again")
        return image

    def record(self, i: int) -> TrackletRecord:
        """The whole record of tracklet i, its checksums verified.

        Raises:
            InputError: it is damaged.
        """
        offset, length = self._index.record_offsets[i], self._index.record_lengths[i]
        start, end = offset - example.HEADER_BYTES, offset + length + example.FOOTER_BYTES
        where = f"{self.shard(i)}: tracklet {self.names[i]}"
        return decode(example.unframe(self._map(i)[start:end], where))

    def _verify(self, i: int) -> None:
        record = self.record(i)
        if record.name != self.names[i] or len(record.frames) != self.lengths[i]:
            raise InputError(f"{self.shard(i)}: tracklet {record.name} of {len(record.frames)} frames lies where the "
                             f"index has {self.names[i]} of {self.lengths[i]}; make the index again with: "
                             f"python -m cfaan_jax.data.records --rebuild_index {self.directory}")
        self._verified[i] = True

    def _rows(self, i: int) -> slice:
        return slice(self._index.frame_start[i], self._index.frame_start[i + 1])

    def _map(self, i: int) -> mmap.mmap:
        number = int(self._index.shards[i])
        with self._lock:
            if number not in self._maps:
                with open(self.shard(i), "rb") as file:
                    self._maps[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return self._maps[number]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.data.records",
                                     description="Rebuilds the indexes of a folder of records from its shards.")
    parser.add_argument("--rebuild_index", required=True, type=Path, metavar="FOLDER",
                        help="folder written by data_prep/build_tfrecords.py")
    folder = parser.parse_args(arguments).rebuild_index
    try:
        present = {match["split"] for path in folder.glob("*.tfrecord-*") if (match := _SHARD.fullmatch(path.name))}
        if not present:
            raise InputError(f"{folder}: no shard there; give the --out of data_prep/build_tfrecords.py")
        for split in sorted(present):
            print(rebuild_index(folder, split))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
