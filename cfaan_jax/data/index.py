"""Where the records of a split lie: the names of its shards, and a row for each tracklet and each frame."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError

BUILD_AGAIN = "run data_prep/build_tfrecords.py again: it makes only what is missing"
SHARD = re.compile(r"(?P<dataset>.+)-(?P<split>[a-z]+)\.tfrecord-\d{5}-of-(?P<total>\d{5})")

_PER_TRACKLET = ("shards", "record_offsets", "record_lengths", "names", "track_ids", "pids", "camids")
_PER_FRAME = ("frame_offsets", "frame_lengths", "image_sizes", "rectangles", "candidates", "actions")


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

    def only(self, wanted: np.ndarray) -> "Index":
        """The rows of some tracklets, bool `[N]`."""
        lengths = np.diff(self.frame_start)
        columns = {name: getattr(self, name)[wanted] for name in _PER_TRACKLET}
        columns |= {name: getattr(self, name)[np.repeat(wanted, lengths)] for name in _PER_FRAME}
        return replace(self, frame_start=np.concatenate([[0], np.cumsum(lengths[wanted])]), **columns)


def index_path(directory: str | Path, split: str) -> Path:
    """Where the index of a split lies."""
    return Path(directory) / f"index-{split}.npz"


def find_shards(directory: str | Path, names: Iterable[str], split: str) -> list[str]:
    """The shards of a split among the names of files, in order; all of them or an InputError."""
    found = {name: match for name in names if (match := SHARD.fullmatch(name)) and match["split"] == split}
    series = {(match["dataset"], match["total"]) for match in found.values()}
    if len(series) > 1:
        raise InputError(f"{directory}: shards of split {split} from different runs, such as {min(found)} and "
                         f"{max(found)}; delete those that do not belong here")
    dataset, total = next(iter(series), ("", "00000"))
    wanted = [f"{dataset}-{split}.tfrecord-{number:05d}-of-{total}" for number in range(int(total))]
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        raise InputError(f"{directory}/{missing[0]}: this shard is missing; {BUILD_AGAIN}" if missing else
                         f"{directory}: no shard of split {split}; {BUILD_AGAIN}")
    return wanted


def local_shards(directory: Path, split: str) -> list[Path]:
    """The shards of a split in a local folder; otherwise as `find_shards`."""
    files = (path.name for path in directory.iterdir() if path.is_file())
    return [directory / name for name in find_shards(directory, files, split)]


def present_splits(directory: Path) -> list[str]:
    """The splits of which there is any shard in a local folder, sorted."""
    return sorted({match["split"] for path in directory.iterdir() if (match := SHARD.fullmatch(path.name))})
