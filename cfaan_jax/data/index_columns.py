"""Whether the columns of an index fit each other: a file with the right names may hold anything."""

from dataclasses import fields

import numpy as np

from cfaan_jax.data import example
from cfaan_jax.data.index import Index

_TEXTS = ("shard_names", "names", "action_names")
_OF_TRACKLETS = ("shards", "record_offsets", "record_lengths", "track_ids", "pids", "camids")
_OF_FRAMES = ("frame_lengths", "candidates", "actions")


def check(index: Index) -> None:
    """Raises ValueError where columns do not fit each other or point outside their shards; no shard is read.

    Args:
        index: of columns as they were found.
    """
    for field in fields(index):
        column = getattr(index, field.name)
        if column.dtype.kind not in ("U" if field.name in _TEXTS else "iu") or column.dtype == np.uint64:
            raise ValueError(f"{field.name} holds {column.dtype}")
    tracklets, frames, shards = index.names.size, index.frame_offsets.size, index.shard_names.size
    shapes = {"shard_names": (shards,), "shard_sizes": (shards,), "action_names": (index.action_names.size,),
              "names": (tracklets,), **dict.fromkeys(_OF_TRACKLETS, (tracklets,)), "frame_start": (tracklets + 1,),
              "frame_offsets": (frames,), **dict.fromkeys(_OF_FRAMES, (frames,)),
              "image_sizes": (frames, 2), "rectangles": (frames, 4)}
    for name, shape in shapes.items():
        if (column := getattr(index, name)).shape != shape:
            raise ValueError(f"{name} has shape {column.shape} instead of {shape}")
    _check_places(index)


def _check_places(index: Index) -> None:
    start = index.frame_start.astype(np.int64)
    if start[0] != 0 or start[-1] != index.frame_offsets.size or (start[1:] <= start[:-1]).any():
        raise ValueError("frame_start does not count the frames")
    if not _within(index.shards, 0, index.shard_names.size - 1):
        raise ValueError("a record in a shard that is not listed")
    if not _within(index.actions, 0, index.action_names.size - 1):
        raise ValueError("an action that is not listed")
    records = index.record_offsets.astype(np.int64), index.record_lengths.astype(np.int64)
    sizes = index.shard_sizes.astype(np.int64)[index.shards]
    if not _lie_in(*records, example.HEADER_BYTES, sizes - example.FOOTER_BYTES):
        raise ValueError("a record outside its shard")
    offset, length = (np.repeat(column, np.diff(start)) for column in records)
    if not _lie_in(index.frame_offsets.astype(np.int64), index.frame_lengths.astype(np.int64), offset, offset + length):
        raise ValueError("a frame outside its record")


def _within(values: np.ndarray, low: int, high: int) -> bool:
    return bool(((values >= low) & (values <= high)).all())


def _lie_in(starts: np.ndarray, lengths: np.ndarray, low: np.ndarray | int, high: np.ndarray) -> bool:
    """Whether pieces of so many bytes lie between two places; no sum here can overflow unseen."""
    return bool(((starts >= low) & (starts <= high) & (lengths >= 0) & (lengths <= high - starts)).all())
