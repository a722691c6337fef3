"""Makes the index of a split from its shards."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cfaan_jax.data.example import BUILD_AGAIN, read_file
from cfaan_jax.data.images import size_of
from cfaan_jax.data.index import index_path, local_shards, present_splits
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, decode
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.command import CommandParser, exit_status
from cfaan_jax.runtime.files import atomic_file
from cfaan_jax.runtime.progress import Progress


def rebuild_index(directory: str | Path, split: str) -> Path:
    """Reads and checks all shards of a split and writes their index; the same shards give the same index.

    InputError for shards that are missing, or records that are damaged or cut short.
    """
    shards, rows = local_shards(Path(directory), split), []
    with Progress(f"checking and indexing {split}", len(shards)) as progress:
        for number, shard in enumerate(shards):
            for position, (offset, payload) in enumerate(read_file(shard)):
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
    path = index_path(directory, split)
    with atomic_file(path) as file:
        np.savez(file, schema_version=SCHEMA_VERSION, shard_names=np.array([shard.name for shard in shards]),
                 shard_sizes=np.array([shard.stat().st_size for shard in shards], np.int64), **columns)
    return path


def _index_row(shard: int, offset: int, payload: bytes) -> dict[str, np.ndarray]:
    """What one record adds to the columns of the index."""
    record = decode(payload)
    starts, end = [], 0
    for frame in record.frames:  # in the order in which they lie, since equal frames may repeat
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `python -m cfaan_jax.data.records`; returns the exit status."""
    parser = CommandParser("python -m cfaan_jax.data.records",
                           "Rebuilds the indexes of a folder of records from its shards.")
    parser.add_argument("--rebuild_index", required=True, type=Path, metavar="FOLDER", help="folder of records")

    def rebuild() -> None:
        folder = parser.parse_args(arguments).rebuild_index
        splits = present_splits(folder) if folder.is_dir() else ()
        if not splits:
            raise InputError(f"{folder}: no shard there; give the --out of data_prep/build_tfrecords.py")
        for split in splits:
            print(rebuild_index(folder, split))

    return exit_status(rebuild)
