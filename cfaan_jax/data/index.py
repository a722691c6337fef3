"""The index of a split: the names of its shards, and a row for each tracklet and each frame."""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from cfaan_jax.data import storage
from cfaan_jax.data.example import BUILD_AGAIN, FOOTER_BYTES, HEADER_BYTES
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION
from cfaan_jax.errors import InputError, reason
from cfaan_jax.runtime.files import read_npz

_SHARD = re.compile(r"(?P<dataset>.+)-(?P<split>[a-z]+)\.tfrecord-\d{5}-of-(?P<total>\d{5})")

_TEXTS = ("shard_names", "names", "action_names")
_PER_TRACKLET = ("shards", "record_offsets", "record_lengths", "names", "track_ids", "pids", "camids")
_PER_FRAME = ("frame_offsets", "frame_lengths", "image_sizes", "rectangles", "candidates", "actions")


@dataclass(frozen=True, eq=False)
class Index:
    """Where the records and frames of one split lie in its S shards, and what is needed without reading them.

    N tracklets, F frames, one array a column. The frames of tracklet i are rows `frame_start[i]` to
    `frame_start[i + 1]` of the frame columns. Offsets are bytes from the start of the shard.
    """

    shard_names: np.ndarray  # str [S], file names
    shard_sizes: np.ndarray  # int64 [S], bytes: a shard of another size is not the one that was indexed
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
    """The index of a split."""
    return Path(directory) / f"index-{split}.npz"


def find_shards(directory: str | Path, names: Iterable[str], split: str) -> list[str]:
    """The shards of a split among the names of files, in order; InputError unless all are there."""
    matches = {name: match for name in names if (match := _SHARD.fullmatch(name)) and match["split"] == split}
    series = {(match["dataset"], match["total"]) for match in matches.values()}
    if len(series) > 1:
        raise InputError(f"{directory}: shards of split {split} from different runs, such as {min(matches)} and "
                         f"{max(matches)}; delete those that do not belong here")
    dataset, total = next(iter(series), ("", "00000"))
    shards = [f"{dataset}-{split}.tfrecord-{number:05d}-of-{total}" for number in range(int(total))]
    missing = [name for name in shards if name not in matches]
    if missing or not shards:
        what = f"/{missing[0]}: this shard is missing" if missing else f": no shard of split {split}"
        raise InputError(f"{directory}{what}; {BUILD_AGAIN}")
    return shards


def local_shards(directory: Path, split: str) -> list[Path]:
    """The shards of a split in a local folder; otherwise as `find_shards`."""
    files = (path.name for path in directory.iterdir() if path.is_file())
    return [directory / name for name in find_shards(directory, files, split)]


def present_splits(directory: Path) -> list[str]:
    """The splits that have a shard in a local folder, sorted."""
    return sorted({match["split"] for path in directory.iterdir() if (match := _SHARD.fullmatch(path.name))})


def rebuild_command(directory: str | Path) -> str:
    """The command that makes the indexes of a folder again."""
    command = "python -m cfaan_jax.data.records --rebuild_index"
    return f"{command} COPY, on a local copy" if storage.is_address(directory) else f"{command} {directory}"


def load_index(directory: str | Path, split: str) -> Index:
    """Reads the index of a split; InputError unless it is sound and its shards are there with the sizes they had."""
    folder, rebuild = storage.open_folder(directory), rebuild_command(directory)
    name = index_path(directory, split).name
    path, sizes = folder.path(name), folder.sizes()
    shards = find_shards(directory, sizes, split)
    try:
        content = folder.read(name)
    except storage.MissingFile:
        raise InputError(f"{path} is missing; make it with: {rebuild}") from None
    try:
        arrays = read_npz(io.BytesIO(content))
        version = int(arrays["schema_version"])
        index = Index(**{field.name: arrays[field.name] for field in fields(Index)})
        _check(index)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InputError(f"{path} is damaged ({reason(error)}); make it again with: {rebuild}") from None
    if version != SCHEMA_VERSION or index.shard_names.tolist() != shards:
        raise InputError(f"{path} is stale, made from other shards than those in the folder; make it again with: "
                         f"{rebuild}")
    for shard, size in zip(shards, index.shard_sizes.tolist(), strict=True):
        if sizes[shard] != size:
            raise InputError(f"{folder.path(shard)} has {sizes[shard]} bytes, but {size} in the index; if the shard "
                             f"is right: {rebuild}; else delete it and {BUILD_AGAIN}")
    return index


def _check(index: Index) -> None:
    """Raises ValueError where columns do not fit each other or point outside their shards; no shard is read."""
    for field in fields(index):
        column = getattr(index, field.name)
        if column.dtype.kind not in ("U" if field.name in _TEXTS else "iu") or column.dtype == np.uint64:
            raise ValueError(f"{field.name} holds {column.dtype}")
    tracklets, frames, shards = index.names.size, index.frame_offsets.size, index.shard_names.size
    shapes = {"shard_names": (shards,), "shard_sizes": (shards,), "action_names": (index.action_names.size,),
              **dict.fromkeys(_PER_TRACKLET, (tracklets,)), "frame_start": (tracklets + 1,),
              **dict.fromkeys(_PER_FRAME, (frames,)), "image_sizes": (frames, 2), "rectangles": (frames, 4)}
    for name, shape in shapes.items():
        if (column := getattr(index, name)).shape != shape:
            raise ValueError(f"{name} has shape {column.shape} instead of {shape}")
    start = index.frame_start.astype(np.int64)
    if start[0] != 0 or start[-1] != frames or (start[1:] <= start[:-1]).any():
        raise ValueError("frame_start does not count the frames")
    for positions, size, what in ((index.shards, shards, "a record in a shard"),
                                  (index.actions, index.action_names.size, "an action")):
        if ((positions < 0) | (positions >= size)).any():
            raise ValueError(f"{what} that is not listed")
    offsets, lengths = index.record_offsets.astype(np.int64), index.record_lengths.astype(np.int64)
    sizes = index.shard_sizes.astype(np.int64)[index.shards]
    if not _lie_inside(offsets, lengths, HEADER_BYTES, sizes - FOOTER_BYTES):
        raise ValueError("a record outside its shard")
    low, high = (np.repeat(column, np.diff(start)) for column in (offsets, offsets + lengths))
    if not _lie_inside(index.frame_offsets.astype(np.int64), index.frame_lengths.astype(np.int64), low, high):
        raise ValueError("a frame outside its record")


def _lie_inside(starts: np.ndarray, lengths: np.ndarray, low: np.ndarray | int, high: np.ndarray) -> bool:
    """Whether pieces lie between two offsets; written so that no sum can overflow."""
    return bool(((starts >= low) & (starts <= high) & (lengths >= 0) & (lengths <= high - starts)).all())
