"""Tracklets as TFRecords: what a record holds, and random access to single frames through an index.

A folder of records holds, for each split, shards `<dataset>-<split>.tfrecord-00000-of-00007` and `index-<split>.npz`,
and once `manifest.json` (how it was made) and the description by which TensorFlow Datasets reads it. Payloads lie
uncompressed in the shards, so that the index can name the place of every frame. A lost index is rebuilt by

    python -m cfaan_jax.data.records --rebuild_index FOLDER
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from cfaan_jax.data import example, index_columns, memory, storage
from cfaan_jax.data.images import decode_into, decoded, size_of
from cfaan_jax.data.index import BUILD_AGAIN, Index, find_shards, index_path, local_shards, present_splits
from cfaan_jax.errors import DamagedRecord, InputError
from cfaan_jax.runtime.command import exit_status
from cfaan_jax.runtime.files import atomic_file, parse_json, read_npz
from cfaan_jax.runtime.progress import Progress

SCHEMA_VERSION = 1
SPLITS = ("train", "query", "gallery")
MANIFEST = "manifest.json"

_KEPT = 64  # records of object storage: evaluation takes clips of a tracklet one after the other
_IN_MANIFEST = {"dataset": str, "note": str, "aligned": bool, "counts": dict, "settings": dict}
_PER_FRAME = ("frames", "rectangles", "boxes", "actions", "candidates", "sources")

_Reader = Callable[[int, int, int], bytes]  # gives the bytes of a tracklet's payload from start to end


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
        actions: what Re-Detect and Link did to each frame, see `data_prep.redetect_link.alignment`; "none" without it.
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
    folder = storage.opened(directory)
    path = folder.place(MANIFEST)
    try:
        content = folder.read(MANIFEST)
    except storage.Missing:
        raise InputError(f"{path} is missing: {directory} holds no finished records; make them with "
                         "data_prep/build_tfrecords.py, or name the folder where they are") from None
    try:
        manifest = parse_json(content)
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error}); restore it, or build the records again into "
                         "another folder") from None
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        found = manifest.get("schema_version") if isinstance(manifest, dict) else None
        raise InputError(f"{path}: schema version {found!r}, this program reads {SCHEMA_VERSION}; build the records "
                         "again into another folder")
    counts, there = manifest.get("counts"), folder.sizes()
    if not (all(isinstance(manifest.get(name), kind) for name, kind in _IN_MANIFEST.items()) and all(
            split in SPLITS and isinstance(count, dict) and isinstance(count.get("tracklets"), int)
            for split, count in counts.items()) and all(
            split in counts for split in SPLITS if index_path("", split).name in there)):
        raise InputError(f"{path}: damaged, it says nothing of what lies here; restore it, or build the records again "
                         "into another folder")
    return manifest


def rebuild_index(directory: str | Path, split: str) -> Path:
    """Reads all shards of a split, checks every byte, and writes their index; the same shards give the same index.

    Raises:
        InputError: shards are missing, or a record is damaged or cut short.
    """
    folder = Path(directory)
    shards = local_shards(folder, split)
    rows = []
    with Progress(f"checking and indexing {split}", len(shards)) as progress:
        for number, shard in enumerate(shards):
            for position, (offset, payload) in enumerate(example.read_file(shard)):
                try:
                    rows.append(_index_row(number, offset, payload))
                except ValueError as error:
                    raise InputError(f"{shard}: record {position}: {error}; delete this file and "
                                     f"{BUILD_AGAIN}") from None
            progress.advance()
    if not rows:
        raise InputError(f"{shards[0]}: an empty file; delete it and {BUILD_AGAIN}")
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    columns["frame_start"] = np.cumsum(np.concatenate([[0], columns.pop("lengths")]))
    columns["action_names"], codes = np.unique(columns["actions"], return_inverse=True)
    columns["actions"] = codes.astype(np.uint8)
    path = index_path(folder, split)
    with atomic_file(path) as file:
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


def _index_again(directory: str | Path) -> str:
    """The command that makes the index of a folder again."""
    command = "python -m cfaan_jax.data.records --rebuild_index"
    return f"{command} COPY, on a local copy" if storage.is_address(directory) else f"{command} {directory}"


def load_index(directory: str | Path, split: str) -> Index:
    """Reads the index of a split and checks that its shards are there, with the sizes they had.

    Raises:
        InputError: the index is missing or damaged, or a shard is missing or not the one that was indexed.
    """
    folder, rebuild = storage.opened(directory), _index_again(directory)
    name = index_path(directory, split).name
    path, sizes = folder.place(name), folder.sizes()
    shards = find_shards(directory, sizes, split)
    try:
        content = folder.read(name)
    except storage.Missing:
        raise InputError(f"{path} is missing; make it with: {rebuild}") from None
    try:
        arrays = read_npz(io.BytesIO(content))
        version = int(arrays["schema_version"])
        index = Index(**{field.name: arrays[field.name] for field in fields(Index)})
        index_columns.check(index)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}); make it again with: {rebuild}") from None
    if version != SCHEMA_VERSION or index.shard_names.tolist() != shards:
        raise InputError(f"{path} is stale, made from other shards than those in the folder; make it again with: "
                         f"{rebuild}")
    for shard, size in zip(shards, index.shard_sizes.tolist(), strict=True):
        if sizes[shard] != size:
            raise InputError(f"{folder.place(shard)} has {sizes[shard]} bytes, its index says {size}: cut short, or "
                             f"not the file that was indexed; delete it and {BUILD_AGAIN}, or, if the file is right, "
                             f"make the index again with: {rebuild}")
    return index


class RecordSet:
    """The tracklets of one split, with random access to single frames; safe to use from several threads.

    On a local disk frames are read from where they lie. From object storage one read brings all of a tracklet, and the
    latest ones are kept. In both cases a record is verified before the first of its frames is given out.

    Attributes:
        directory, split: where they came from.
        names: list of tracklet names.
        track_ids, pids, camids, lengths: int64 `[N]`; lengths are numbers of frames.
    """

    def __init__(self, directory: str | Path, split: str, index: Index):
        self.directory, self.split, self._index = directory, split, index
        self.names = index.names.tolist()
        self.track_ids, self.pids, self.camids = index.track_ids, index.pids, index.camids
        self.lengths = np.diff(index.frame_start)
        self._shards, self._offsets = index.shard_names[index.shards].tolist(), index.record_offsets.tolist()
        self._folder = storage.opened(directory)
        self._verified = bytearray(len(self.names))
        self._reader = self._from_disk if self._folder.near else _of_payloads(storage.Recent(self._read, _KEPT))

    def __reduce__(self):
        """Another process opens the files for itself, and verifies what it reads."""
        return RecordSet, (self.directory, self.split, self._index)

    @classmethod
    def open(cls, directory: str | Path, split: str) -> "RecordSet":
        """Opens a split of finished records, in a local folder or at an address such as gs://bucket/records.

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
            raise InputError(f"{directory}/{index_path(directory, split).name}: {len(index.names)} tracklets, but "
                             f"{MANIFEST} counts {expected}; delete the shard that was cut short and {BUILD_AGAIN}")
        return cls(directory, split, index)

    def only(self, wanted: np.ndarray) -> "RecordSet":
        """Some of the tracklets, bool `[N]`."""
        return RecordSet(self.directory, self.split, self._index.only(wanted))

    def hold(self, workers: int) -> None:
        """Reads all records into memory, in order and verified, so that no frame is read again.

        Args:
            workers: reading threads.

        Raises:
            InputError: they do not fit, or one is damaged.
        """
        size, room = int(self._index.record_lengths.sum()), memory.available()
        if room is not None and size > room:
            raise InputError(f"config.data.cache: split {self.split} of {self.directory} takes {size / 2**30:.1f} GiB, "
                             f"but {room / 2**30:.1f} GiB of memory are available; leave it off")
        with ThreadPoolExecutor(workers) as pool, Progress(f"reading {self.split} into memory", len(self)) as progress:
            payloads = []
            for payload in pool.map(self._read, range(len(self))):
                payloads.append(payload)
                progress.advance()
        self._reader = _of_payloads(payloads.__getitem__)

    def __len__(self) -> int:
        return len(self.names)

    def shard(self, i: int) -> str | Path:
        """The file that tracklet i lies in."""
        return self._folder.place(self._shards[i])

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

    def image_sizes_at(self, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Height and width of some frames: tracklets int `[n]`, frames int `[n]`; int32 `[n, 2]`."""
        return self._index.image_sizes[self._rows_at(tracklets, frames)]

    def rectangles_at(self, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Rectangles of real pixels of some frames: tracklets int `[n]`, frames int `[n]`; int32 `[n, 4]`."""
        return self._index.rectangles[self._rows_at(tracklets, frames)]

    def frame(self, i: int, k: int) -> bytes:
        """The JPEG file of frame k of tracklet i.

        Raises:
            DamagedRecord: the record is damaged, or not the one that was indexed.
            InputError: it cannot be read.
        """
        [file] = self._files(np.array([i]), np.array([k]))
        return file

    def image(self, i: int, k: int) -> np.ndarray:
        """Frame k of tracklet i, uint8 `[h, w, 3]`, RGB; `DamagedRecord` when it cannot be decoded."""
        image = decoded(self.frame(i, k))
        if image is None or image.shape[:2] != tuple(self.image_sizes(i)[k].tolist()):
            raise self._unreadable(i, k)
        return image

    def images_into(self, pixels: Sequence[np.ndarray], tracklets: np.ndarray, frames: np.ndarray) -> None:
        """Frames k `[n]` of tracklets i `[n]` as `image` gives them, each into pixels of its size, side by side.

        All are read before the first is decoded: what threads do in Python between decoding keeps the others waiting.
        """
        for n in decode_into(pixels, list(self._files(tracklets, frames))):
            raise self._unreadable(tracklets[n], frames[n])

    def _files(self, tracklets: np.ndarray, frames: np.ndarray) -> Iterator[bytes]:
        """The JPEG files of some frames, each read when it is asked for; errors as those of `frame`."""
        rows = self._rows_at(tracklets, frames)
        starts = self._index.frame_offsets[rows] - self._index.record_offsets[tracklets]
        ends = starts + self._index.frame_lengths[rows]
        return map(self._reader, tracklets.tolist(), starts.tolist(), ends.tolist())

    def _unreadable(self, i: int, k: int) -> DamagedRecord:
        return DamagedRecord(f"{self.shard(i)}: frame {k} of tracklet {self.names[i]} is not a readable JPEG; delete "
                             f"this shard and {BUILD_AGAIN}")

    def record(self, i: int) -> TrackletRecord:
        """The whole record of tracklet i; errors as those of `frame`."""
        return decode(self._reader(i, 0, self._index.record_lengths[i]))

    def _from_disk(self, i: int, start: int, end: int) -> bytes:
        """A part of the payload of tracklet i, which is verified once for each tracklet and process."""
        if not self._verified[i]:
            self._read(i)
            self._verified[i] = True
        offset = self._offsets[i]
        return self._folder.part(self._shards[i], offset + start, offset + end)

    def _read(self, i: int) -> bytes:
        """The payload, read and verified: its checksums, and that it is what the index says."""
        where = f"{self.shard(i)}: tracklet {self.names[i]}"
        offset, length = self._index.record_offsets[i], self._index.record_lengths[i]
        payload = example.unframe(self._folder.part(self._shards[i], offset - example.HEADER_BYTES,
                                                    offset + length + example.FOOTER_BYTES), where)
        try:
            record = decode(payload)
        except ValueError as error:
            raise DamagedRecord(f"{where}: {error}; delete this shard and {BUILD_AGAIN}") from None
        if not self._is_indexed(i, payload, record):
            raise DamagedRecord(f"{self.shard(i)}: tracklet {record.name} of {len(record.frames)} frames lies where "
                                f"the index has {self.names[i]} of {self.lengths[i]}, or with other content; make the "
                                f"index again with: {_index_again(self.directory)}")
        return payload

    def _is_indexed(self, i: int, payload: bytes, record: TrackletRecord) -> bool:
        index, rows = self._index, self._rows(i)
        starts = index.frame_offsets[rows] - index.record_offsets[i]
        frames = tuple(payload[start:start + length]
                       for start, length in zip(starts, index.frame_lengths[rows], strict=True))
        return (frames == record.frames and np.array_equal(record.rectangles, index.rectangles[rows])
                and (record.name, record.track_id, record.pid, record.camid)
                == (self.names[i], index.track_ids[i], index.pids[i], index.camids[i]))

    def _rows(self, i: int) -> slice:
        return slice(self._index.frame_start[i], self._index.frame_start[i + 1])

    def _rows_at(self, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """The rows of some frames in the index; IndexError for one that its tracklet has not."""
        for n in np.flatnonzero((frames < 0) | (frames >= self.lengths[tracklets])):
            i = tracklets[n]
            raise IndexError(f"tracklet {self.names[i]} has {self.lengths[i]} frames, asked for frame {frames[n]}")
        return self._index.frame_start[tracklets] + frames


def _of_payloads(payload: Callable[[int], bytes]) -> _Reader:
    return lambda i, start, end: payload(i)[start:end]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.data.records",
                                     description="Rebuilds the indexes of a folder of records from its shards.")
    parser.add_argument("--rebuild_index", required=True, type=Path, metavar="FOLDER", help="folder of records")
    folder = parser.parse_args(arguments).rebuild_index

    def rebuild() -> None:
        if not (present := present_splits(folder)):
            raise InputError(f"{folder}: no shard there; give the --out of data_prep/build_tfrecords.py")
        for split in present:
            print(rebuild_index(folder, split))

    return exit_status(rebuild)


if __name__ == "__main__":
    sys.exit(main())
