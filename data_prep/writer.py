"""Writes tracklets as sharded TFRecords that are complete or absent, never half there.

A shard is written under a temporary name and renamed when it is on the disk, so a stopped run leaves whole shards only, and
the next one makes those that are missing. `manifest.json` appears last: where it is, everything is. Until then the
settings of the run lie in `unfinished.json`.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from cfaan_jax.data import example
from cfaan_jax.data.records import MANIFEST, SCHEMA_VERSION, SPLITS, TrackletRecord, build_index, encode, index_path
from cfaan_jax.errors import InputError
from data_prep.datasets import Dataset, Tracklet

_UNFINISHED = "unfinished.json"
_SETTINGS = "settings"

Convert = Callable[[Iterable[Tracklet]], Iterator[TrackletRecord]]


@dataclass(frozen=True)
class Shard:
    """One file to be and the tracklets that belong into it."""

    path: Path
    split: str
    tracklets: list[Tracklet]


def plan(dataset: Dataset, directory: Path, shard_size: int) -> list[Shard]:
    """Divides a data set into shards of `shard_size` tracklets, the last of a split being smaller.

    Raises:
        InputError: two tracklets of one name, or an empty data set.
    """
    names = [tracklet.name for tracklet in dataset.tracklets]
    if not names:
        raise InputError(f"data set {dataset.name}: no tracklets")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"data set {dataset.name}: two tracklets are named {twice}")
    shards = []
    for split in SPLITS:
        tracklets = [tracklet for tracklet in dataset.tracklets if tracklet.split == split]
        total = -(-len(tracklets) // shard_size)
        shards += [Shard(directory / f"{dataset.name}-{split}.tfrecord-{number:05d}-of-{total:05d}", split,
                         tracklets[number * shard_size:(number + 1) * shard_size]) for number in range(total)]
    return shards


def claim(directory: Path, dataset: Dataset, settings: dict) -> None:
    """Notes the settings of this run in the folder, or compares them with those of the run that began it.

    Args:
        directory: made if it is not there.
        dataset: its tracklets are part of the comparison, by name, identity and camera.
        settings: everything that the bytes depend on; must be JSON.

    Raises:
        InputError: the folder holds records made otherwise, or something else.
    """
    wanted = json.loads(json.dumps({**settings, "tracklets": _fingerprint(dataset)}))
    directory.mkdir(parents=True, exist_ok=True)
    found = [path for path in (directory / MANIFEST, directory / _UNFINISHED) if path.exists()]
    if not found:
        if any(directory.glob("*.tfrecord-*")):
            raise InputError(f"{directory}: holds TFRecords but neither {MANIFEST} nor {_UNFINISHED}, so nobody knows how "
                             "they were made; give another --out")
        _write_json(directory / _UNFINISHED, {_SETTINGS: wanted})
        return
    try:
        there = json.loads(found[0].read_text())[_SETTINGS]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{found[0]}: damaged; delete the folder {directory} and run again") from None
    differing = [name for name in dict.fromkeys((*there, *wanted)) if there.get(name) != wanted.get(name)]
    if differing:
        lines = (f"  {name}: {there.get(name)!r} there, {wanted.get(name)!r} now" for name in differing)
        raise InputError("\n".join((f"{directory} holds records made with other settings:", *lines,
                                    "give the same again, or another --out")))


def write(shards: list[Shard], convert: Convert, advance: Callable[[Tracklet], None]) -> None:
    """Writes shards one after the other.

    Args:
        shards: those that are missing.
        convert: turns tracklets into records, in order; may work ahead.
        advance: called for each tracklet that is in a shard's buffer.
    """
    records = convert(tracklet for shard in shards for tracklet in shard.tracklets)
    for shard in shards:
        unfinished = shard.path.with_name(shard.path.name + ".unfinished")
        with open(unfinished, "wb") as file:
            for tracklet, record in zip(shard.tracklets, records, strict=False):
                file.write(example.frame(encode(record)))
                advance(tracklet)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, shard.path)


def finish(directory: Path, dataset: Dataset, shards: list[Shard], written: list[Shard], manifest: dict) -> None:
    """Writes what belongs to a complete set of shards: indexes, the description for TensorFlow Datasets, the manifest.

    Args:
        shards: all of them.
        written: those that this run wrote; only their splits are indexed again.
        manifest: what else to keep there.
    """
    splits = [split for split in SPLITS if any(shard.split == split for shard in shards)]
    changed = {shard.split for shard in written}
    for split in splits:
        if split in changed or not index_path(directory, split).exists():
            build_index(directory, split)
    _describe_for_tensorflow(directory, dataset, shards, splits)
    notes = directory / (_UNFINISHED if (directory / _UNFINISHED).exists() else MANIFEST)
    settings = json.loads(notes.read_text())[_SETTINGS]
    counts = {split: {"tracklets": sum(tracklet.split == split for tracklet in dataset.tracklets),
                      "frames": sum(len(tracklet) for tracklet in dataset.tracklets if tracklet.split == split)}
              for split in splits}
    _write_json(directory / MANIFEST, {"schema_version": SCHEMA_VERSION, "dataset": dataset.name, "note": dataset.note,
                                       **manifest, "counts": counts, _SETTINGS: settings})
    (directory / _UNFINISHED).unlink(missing_ok=True)


def _fingerprint(dataset: Dataset) -> str:
    """Changes when a tracklet, its labels or its number of frames does."""
    lines = (f"{t.name} {t.split} {t.track_id} {t.pid} {t.camid} {len(t)}" for t in dataset.tracklets)
    return f"{len(dataset.tracklets)} tracklets, checksum {google_crc32c.value(chr(10).join(lines).encode()):08x}"


def _write_json(path: Path, content: dict) -> None:
    unfinished = path.with_name(path.name + ".writing")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(unfinished, path)


def _describe_for_tensorflow(directory: Path, dataset: Dataset, shards: list[Shard], splits: list[str]) -> None:
    """Makes `tfds.builder_from_directory(directory)` work. TensorFlow is not needed for it."""
    import tensorflow_datasets as tfds  # takes seconds to import, and only this function needs it

    text, integer, rectangle = tfds.features.Text(), np.int64, tfds.features.Tensor(shape=(None, 4), dtype=np.int64)
    features = tfds.features.FeaturesDict({
        "name": text, "split": text, "track_id": integer, "pid": integer, "camid": integer,
        "frames": tfds.features.Sequence(tfds.features.Image(encoding_format="jpeg")),
        "rectangles": rectangle, "boxes": rectangle,
        "actions": tfds.features.Sequence(text), "sources": tfds.features.Sequence(text)})
    features.save_config(str(directory))
    _write_json(directory / "dataset_info.json", {
        "name": dataset.name, "version": f"{SCHEMA_VERSION}.0.0", "fileFormat": "tfrecord",
        "description": dataset.note or f"Tracklets of {dataset.name}.",
        "splits": [{
            "name": split,
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "shardLengths": [str(len(shard.tracklets)) for shard in shards if shard.split == split],
            "numBytes": str(sum(shard.path.stat().st_size for shard in shards if shard.split == split)),
        } for split in splits]})
