"""Writes tracklets as sharded TFRecords. A shard is complete or absent, never partly written.

An interrupted run leaves whole shards only, and the next run writes the missing ones. `manifest.json` appears last and
means that everything is complete. Until then `unfinished.json` holds the settings of the run.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from cfaan_jax.data import description, example
from cfaan_jax.data.index import Index, index_path, load_index
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import MANIFEST, load_manifest
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, SPLITS, encode
from cfaan_jax.errors import InputError, shortened
from cfaan_jax.runtime.files import UNFINISHED, atomic_file, parse_json, write_atomic
from data_prep.datasets import Dataset
from data_prep.redetect_link.tracklet import Tracklet

_BEGUN = "unfinished.json"
_DESCRIPTION = ("features.json", description.DATASET_INFO)  # what TensorFlow Datasets reads


@dataclass(frozen=True)
class Shard:
    """A file and the tracklets that it holds when it is written."""

    path: Path
    split: str
    tracklets: list[Tracklet]


def plan(dataset: Dataset, directory: Path, shard_size: int) -> list[Shard]:
    """Divides a data set into shards of `shard_size` tracklets; the last shard of a split may be smaller.

    Raises:
        InputError: two tracklets of one name, an empty tracklet, or an empty data set.
    """
    if not dataset.tracklets:
        raise InputError(f"data set {dataset.name}: no tracklets; check --root")
    names = set()
    for tracklet in dataset.tracklets:
        if tracklet.name in names:
            raise InputError(f"data set {dataset.name}: two tracklets are named {tracklet.name}; rename one")
        if len(tracklet) == 0:
            raise InputError(f"data set {dataset.name}: tracklet {tracklet.name} has no frames; remove it")
        names.add(tracklet.name)
    shards = []
    for split in SPLITS:
        tracklets = [tracklet for tracklet in dataset.tracklets if tracklet.split == split]
        total = -(-len(tracklets) // shard_size)
        shards += [Shard(directory / f"{dataset.name}-{split}.tfrecord-{number:05d}-of-{total:05d}", split,
                         tracklets[number * shard_size:(number + 1) * shard_size]) for number in range(total)]
    return shards


def is_finished(directory: Path, settings: dict, root: Path) -> bool:
    """Whether the folder holds everything that a run with these settings makes of `root`.

    It checks the records alone, because opening a data set can take long: later changes of `root` stay unnoticed.
    """
    try:
        manifest = load_manifest(directory)
        for split in manifest["counts"]:
            RecordSet.open(directory, split)
    except InputError:
        return False
    stored = {name: value for name, value in manifest.get("settings", {}).items() if name != "tracklets"}
    return (stored == _as_json(settings) and manifest.get("root") == str(root.resolve())
            and all((directory / name).exists() for name in _DESCRIPTION))


def save_or_check_settings(directory: Path, dataset: Dataset, settings: dict) -> dict:
    """Saves the settings of this run in the folder, or compares them with those of the run that started it.

    Args:
        directory: created if it is missing.
        dataset: names, labels, lengths, masks and frame names of its tracklets are part of the comparison.
        settings: all flags that the bytes depend on, by name.

    Returns:
        The settings for the manifest, with a fingerprint of the tracklets.

    Raises:
        InputError: the folder holds records with other settings, or other files.
    """
    settings = _as_json({**settings, "tracklets": _fingerprint(dataset)})
    path = next((directory / name for name in (MANIFEST, _BEGUN) if (directory / name).exists()), None)
    if path is None:
        _start(directory, settings)
        return settings
    try:
        stored = dict(parse_json(path.read_text())["settings"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged; delete the folder {directory} and run again") from None
    if stored != settings:
        differing = [name for name in stored if name in settings and stored[name] != settings[name]]
        differing = differing or sorted(stored.keys() ^ settings.keys())  # thresholds, only if the detector is the same
        changes = shortened([f"{name}: {stored.get(name)} there, {settings.get(name)} now" for name in differing])
        raise InputError(f"--out={directory}: holds records made with other settings ({changes}); repeat those, or "
                         "choose another --out")
    return settings


def _start(directory: Path, settings: dict) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"--out={directory}: is a file; name a folder")
    directory.mkdir(parents=True, exist_ok=True)
    foreign = sorted(path.name for path in directory.iterdir()
                     if not path.name.startswith(".") and not path.name.endswith(UNFINISHED))
    if foreign:
        raise InputError(f"--out={directory}: holds {foreign[0]} but neither {MANIFEST} nor {_BEGUN}, so this command "
                         "did not create it; choose a new or an empty folder")
    _write_json(directory / _BEGUN, {"settings": settings})


def write(shards: list[Shard], convert: Callable[[Iterable[Tracklet]], Iterator[TrackletRecord]],
          advance: Callable[[TrackletRecord], None]) -> None:
    """Writes shards one after the other.

    Args:
        shards: the missing ones.
        convert: a generator of the records of tracklets, in order; may work ahead.
        advance: called with every record after it is written.
    """
    with closing(convert(tracklet for shard in shards for tracklet in shard.tracklets)) as records:
        for shard in shards:
            # An older index would fit a shard of equal size with other bytes.
            index_path(shard.path.parent, shard.split).unlink(missing_ok=True)
            with atomic_file(shard.path) as file:
                for _ in shard.tracklets:
                    record = next(records)
                    file.write(example.pack_tfrecord(encode(record)))
                    advance(record)


def finish(directory: Path, dataset: Dataset, root: Path, shards: list[Shard], settings: dict, about: dict) -> None:
    """Completes a folder of shards: writes indexes, the description for TensorFlow Datasets and the manifest.

    Args:
        root: where the data set was read.
        shards: all of them.
        settings: what `save_or_check_settings` returned.
        about: further entries of the manifest.

    Raises:
        InputError: a shard is damaged, or holds other tracklets than planned.
    """
    indexes = {split: _index(directory, split, [shard for shard in shards if shard.split == split])
               for split in dict.fromkeys(shard.split for shard in shards)}
    _describe_for_tensorflow(directory, dataset, indexes)
    _write_json(directory / MANIFEST, {
        "schema_version": SCHEMA_VERSION, "dataset": dataset.name, "note": dataset.note, **about,
        "counts": {split: description.counts(index) for split, index in indexes.items()},
        "root": str(root.resolve()), "settings": settings})
    (directory / _BEGUN).unlink(missing_ok=True)


def _index(directory: Path, split: str, shards: list[Shard]) -> Index:
    """Loads the index of a split, builds it if it is missing or stale, and compares it with the planned tracklets."""
    try:
        index = load_index(directory, split)
    except InputError:
        rebuild_index(directory, split)
        index = load_index(directory, split)
    for number, shard in enumerate(shards):
        if index.names[index.shards == number].tolist() != [tracklet.name for tracklet in shard.tracklets]:
            raise InputError(f"{shard.path}: does not hold the {len(shard.tracklets)} tracklets that belong there; "
                             "delete it and run again")
    return index


def _fingerprint(dataset: Dataset) -> str:
    """Changes with the position, the labels, the length, the masks or the frame names of a tracklet."""
    checksum = google_crc32c.Checksum()
    for t in dataset.tracklets:
        checksum.update(json.dumps([t.name, t.split, t.track_id, t.pid, t.camid, t.sources]).encode())
        if t.rectangles is not None:
            checksum.update(t.rectangles.tobytes())
    return f"{len(dataset.tracklets)} with checksum {checksum.hexdigest().decode()}"


def _as_json(settings: dict) -> dict:
    """Settings as a file returns them: JSON has no tuples."""
    return json.loads(json.dumps(settings))


def _write_json(path: Path, content: dict) -> None:
    write_atomic(path, json.dumps(content, indent=2) + "\n")


def _describe_for_tensorflow(directory: Path, dataset: Dataset, indexes: dict[str, Index]) -> None:
    """Makes `tfds.builder_from_directory(directory)` work, without TensorFlow."""
    import tensorflow_datasets as tfds  # slow to import, and only this function needs it

    text, rectangle = tfds.features.Text(), tfds.features.Tensor(shape=(None, 4), dtype=np.int64)
    tfds.features.FeaturesDict({
        "name": text, "split": text, "track_id": np.int64, "pid": np.int64, "camid": np.int64,
        "frames": tfds.features.Sequence(tfds.features.Image(encoding_format="jpeg")),
        "rectangles": rectangle, "boxes": rectangle, "candidates": tfds.features.Sequence(np.int64),
        "actions": tfds.features.Sequence(text), "sources": tfds.features.Sequence(text),
    }).save_config(str(directory))
    words = [dataset.note or f"Tracklets of {dataset.name}."]
    if not all(map(_have_one_size, indexes.values())):  # TensorFlow cannot stack them
        words.append("Frames of one tracklet differ in size; pass "
                     "decoders={'frames': tfds.decode.SkipDecoding()} to get them as JPEG files.")
    _write_json(directory / description.DATASET_INFO, {
        "name": dataset.name, "version": f"{SCHEMA_VERSION}.0.0", "fileFormat": "tfrecord",
        "description": " ".join(words),
        "splits": [description.tensorflow_split(split, index) for split, index in indexes.items()]})


def _have_one_size(index: Index) -> bool:
    """Whether the frames of every tracklet have one size."""
    first = np.repeat(index.image_sizes[index.frame_start[:-1]], np.diff(index.frame_start), axis=0)
    return bool((index.image_sizes == first).all())
