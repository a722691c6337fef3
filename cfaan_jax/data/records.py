"""Tracklets packed as TFRecords, with random access to single frames through an index.

A folder of records holds, for each split, shards `<dataset>-<split>.tfrecord-00000-of-00007` and `index-<split>.npz`,
and once `manifest.json` (how it was made) and the description by which TensorFlow Datasets reads it. Payloads lie
uncompressed in the shards, so that the index can point at every frame. A lost index is rebuilt by

    python -m cfaan_jax.data.records --rebuild_index FOLDER
"""

import sys
import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from cfaan_jax.data import images, storage
from cfaan_jax.data.example import BUILD_AGAIN, FOOTER_BYTES, HEADER_BYTES, unpack_tfrecord
from cfaan_jax.data.index import Index, index_path, load_index, rebuild_command
from cfaan_jax.data.index_build import main
from cfaan_jax.data.manifest import MANIFEST, load_manifest
from cfaan_jax.data.tracklet_record import TrackletRecord, decode
from cfaan_jax.errors import DamagedRecord, InputError

_CACHED = 64  # records of object storage: evaluation takes clips of a tracklet one after the other


class RecordSet:
    """The tracklets of one split, with random access to single frames; safe to use from several threads.

    On a local disk single frames are read. From object storage one request reads a whole record, and the latest ones
    are cached. In both cases a record is verified before the first of its frames is returned.

    Attributes:
        directory, split: of the records.
        names: list of tracklet names.
        track_ids, pids, camids, lengths: int64 `[N]`; lengths are numbers of frames.
    """

    def __init__(self, directory: str | Path, split: str, index: Index):
        self.directory, self.split, self._index = directory, split, index
        self.names = index.names.tolist()
        self.track_ids, self.pids, self.camids = index.track_ids, index.pids, index.camids
        self.lengths = np.diff(index.frame_start)
        self._folder = storage.open_folder(directory)
        self._verified = bytearray(len(self.names))
        is_local = isinstance(self._folder, storage.LocalFolder)
        self._cached_payload = None if is_local else lru_cache(_CACHED)(self._read_payload)
        self._locks = [threading.Lock() for _ in range(_CACHED)]  # threads that want the same record request it once

    @classmethod
    def open(cls, directory: str | Path, split: str) -> "RecordSet":
        """Opens a split of finished records, in a local folder or at an address such as gs://bucket/records.

        InputError for unfinished records, an unknown split, a missing or damaged index, or shards that do not fit it.
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

    def __len__(self) -> int:
        return len(self.names)

    def shard(self, i: int) -> str | Path:
        """The file that holds tracklet i."""
        return self._folder.path(self._shard_name(i))

    def image_sizes(self, i: int) -> np.ndarray:
        """Height and width of the stored frames of tracklet i, int32 `[n, 2]`."""
        return self._index.image_sizes[self._rows(i)]

    def image_size(self, i: int) -> tuple[int, int]:
        """Height and width of the first stored frame of tracklet i; in most data sets those of all frames."""
        height, width = self.image_sizes(i)[0].tolist()
        return height, width

    def rectangles(self, i: int) -> np.ndarray:
        """Rectangles (y0, y1, x0, x1) of real pixels in the stored frames of tracklet i, int32 `[n, 4]`."""
        return self._index.rectangles[self._rows(i)]

    def candidates(self, i: int) -> np.ndarray:
        """Number of persons detected in each frame of tracklet i, int32 `[n]`; 0 without Re-Detect and Link."""
        return self._index.candidates[self._rows(i)]

    def frame(self, i: int, k: int) -> bytes:
        """The JPEG file of frame k of tracklet i; IndexError if there is no such frame.

        `DamagedRecord` for a record that is damaged or not the one that was indexed, InputError for an unreadable one.
        """
        if not 0 <= k < self.lengths[i]:
            raise IndexError(f"tracklet {self.names[i]} has {self.lengths[i]} frames, asked for frame {k}")
        row = self._index.frame_start[i] + k
        start = int(self._index.frame_offsets[row] - self._index.record_offsets[i])
        return self._payload(i, start, start + int(self._index.frame_lengths[row]))

    def image(self, i: int, k: int) -> np.ndarray:
        """Frame k of tracklet i, uint8 `[h, w, 3]`, RGB; `DamagedRecord` where it cannot be decoded."""
        image = images.decode(self.frame(i, k))
        if image is None or image.shape[:2] != tuple(self.image_sizes(i)[k].tolist()):
            raise DamagedRecord(f"{self.shard(i)}: frame {k} of tracklet {self.names[i]} is not a readable JPEG; "
                                f"delete this shard and {BUILD_AGAIN}")
        return image

    def record(self, i: int) -> TrackletRecord:
        """The whole record of tracklet i; errors as those of `frame`."""
        return decode(self._payload(i, 0, int(self._index.record_lengths[i])))

    # Deprecated names that documentation promised; they go in the next release.

    def hold(self, workers: int) -> None:
        """Deprecated: does nothing, records are read from where they lie."""
        _warn("hold", "nothing")

    def image_sizes_at(self, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Deprecated: use `image_sizes`."""
        _warn("image_sizes_at", "image_sizes")
        return np.stack([self.image_sizes(i)[k] for i, k in zip(tracklets, frames, strict=True)])

    def rectangles_at(self, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Deprecated: use `rectangles`."""
        _warn("rectangles_at", "rectangles")
        return np.stack([self.rectangles(i)[k] for i, k in zip(tracklets, frames, strict=True)])

    def images_into(self, pixels: Sequence[np.ndarray], tracklets: np.ndarray, frames: np.ndarray) -> None:
        """Deprecated: use `image`."""
        _warn("images_into", "image")
        for target, i, k in zip(pixels, tracklets, frames, strict=True):
            target[...] = self.image(i, k)

    def _payload(self, i: int, start: int, end: int) -> bytes:
        """Bytes from start to end of the payload of tracklet i, which is verified first."""
        if self._cached_payload:
            with self._locks[i % _CACHED]:
                return self._cached_payload(i)[start:end]
        if not self._verified[i]:
            self._read_payload(i)
            self._verified[i] = True
        offset = int(self._index.record_offsets[i])
        return self._folder.read_range(self._shard_name(i), offset + start, offset + end)

    def _read_payload(self, i: int) -> bytes:
        """The whole payload, verified: its checksums, and that its content is as indexed."""
        where = f"{self.shard(i)}: tracklet {self.names[i]}"
        offset, length = int(self._index.record_offsets[i]), int(self._index.record_lengths[i])
        record_bytes = self._folder.read_range(self._shard_name(i), offset - HEADER_BYTES,
                                               offset + length + FOOTER_BYTES)
        payload = unpack_tfrecord(record_bytes, where)
        try:
            record = decode(payload)
        except ValueError as error:
            raise DamagedRecord(f"{where}: {error}; delete this shard and {BUILD_AGAIN}") from None
        if not self._is_indexed(i, payload, record):
            raise DamagedRecord(f"{self.shard(i)}: holds tracklet {record.name} of {len(record.frames)} frames where "
                                f"the index has {self.names[i]} of {self.lengths[i]}, or with other content; make the "
                                f"index again with: {rebuild_command(self.directory)}")
        return payload

    def _is_indexed(self, i: int, payload: bytes, record: TrackletRecord) -> bool:
        index, rows = self._index, self._rows(i)
        starts = index.frame_offsets[rows] - index.record_offsets[i]
        frames = tuple(payload[start:start + length]
                       for start, length in zip(starts, index.frame_lengths[rows], strict=True))
        return (frames == record.frames and np.array_equal(record.rectangles, index.rectangles[rows])
                and (record.name, record.track_id, record.pid, record.camid)
                == (self.names[i], index.track_ids[i], index.pids[i], index.camids[i]))

    def _shard_name(self, i: int) -> str:
        return str(self._index.shard_names[self._index.shards[i]])

    def _rows(self, i: int) -> slice:
        return slice(self._index.frame_start[i], self._index.frame_start[i + 1])


def _warn(name: str, instead: str) -> None:
    warnings.warn(f"RecordSet.{name} goes in the next release; use {instead}", DeprecationWarning, stacklevel=3)


if __name__ == "__main__":
    sys.exit(main())
