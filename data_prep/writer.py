"""Writes tracklets as sharded TFRecords that are complete or absent, never half there.

A stopped run leaves whole shards only, and the next one makes those that are missing. `manifest.json` appears last:
where it is, everything was complete. Until then the settings of the run lie in `unfinished.json`.
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
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import UNFINISHED, atomic_file, parse_json, write_atomic
from data_prep.datasets import Dataset
from data_prep.redetect_link.tracklet import Tracklet

_BEGUN = "unfinished.json"
_DESCRIPTION = ("features.json", description.DATASET_INFO)  # what TensorFlow Datasets reads


@dataclass(frozen=True)
class Shard:
    """One file to be and the tracklets that belong into it."""

    path: Path
    split: str
    tracklets: list[Tracklet]


def plan(dataset: Dataset, directory: Path, shard_size: int) -> list[Shard]:
    """Divides a data set into shards of `shard_size` tracklets, the last of a split being smaller.

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
    """Whether the folder holds everything that a run with these settings would make of this `root`.

    It looks at the records alone: opening a data set can take long. One that has changed since is not noticed.
    """
    try:
        manifest = load_manifest(directory)
        for split in manifest["counts"]:
            RecordSet.open(directory, split)
    except InputError:
        return False
    there = {name: value for name, value in manifest.get("settings", {}).items() if name != "tracklets"}
    return (there == _as_json(settings) and manifest.get("root") == str(root.resolve())
            and all((directory / name).exists() for name in _DESCRIPTION))


def claim(directory: Path, dataset: Dataset, settings: dict) -> dict:
    """Notes the settings of this run in the folder, or compares them with those of the run that began it.

    Args:
        directory: made if it is not there.
        dataset: its tracklets are part of the comparison, by name, labels, length, masks and names of the frames.
        settings: by the name of their flag, everything else that the bytes depend on.

    Returns:
        The settings for the manifest, with what stands for the tracklets.

    Raises:
        InputError: the folder holds records made otherwise, or something else.
    """
    wanted = _as_json({**settings, "tracklets": _fingerprint(dataset)})
    found = [path for path in (directory / MANIFEST, directory / _BEGUN) if path.exists()]
    if not found:
        _begin(directory, wanted)
        return wanted
    try:
        there = dict(parse_json(found[0].read_text())["settings"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{found[0]}: damaged; delete the folder {directory} and run again") from None
    if there != wanted:
        differing = [name for name in there if name in wanted and there[name] != wanted[name]]
        differing = differing or sorted(there.keys() ^ wanted.keys())  # thresholds only where a detector differs, too
        lines = (f"  {name}: {there.get(name)} there, {wanted.get(name)} now" for name in differing)
        raise InputError("\n".join((f"--out={directory}: holds records made with other settings:", *lines,
                                    "give the same again, or another --out")))
    return wanted


def _begin(directory: Path, settings: dict) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"--out={directory}: is a file; give a folder")
    directory.mkdir(parents=True, exist_ok=True)
    strange = sorted(path.name for path in directory.iterdir()
                     if not path.name.startswith(".") and not path.name.endswith(UNFINISHED))
    if strange:
        raise InputError(f"--out={directory}: holds {strange[0]} but neither {MANIFEST} nor {_BEGUN}, so it was not "
                         "made by this command; give a new or an empty folder")
    _write_json(directory / _BEGUN, {"settings": settings})


def write(shards: list[Shard], convert: Callable[[Iterable[Tracklet]], Iterator[TrackletRecord]],
          advance: Callable[[TrackletRecord], None]) -> None:
    """Writes shards one after the other.

    Args:
        shards: those that are missing.
        convert: a generator of the records of tracklets, in order; may work ahead.
        advance: called with each record that is on its way to the disk.
    """
    with closing(convert(tracklet for shard in shards for tracklet in shard.tracklets)) as records:
        for shard in shards:
            # An index from before would fit a shard of equal size with other bytes.
            index_path(shard.path.parent, shard.split).unlink(missing_ok=True)
            with atomic_file(shard.path) as file:
                for _ in shard.tracklets:
                    record = next(records)
                    file.write(example.pack_tfrecord(encode(record)))
                    advance(record)


def finish(directory: Path, dataset: Dataset, root: Path, shards: list[Shard], settings: dict, about: dict) -> None:
    """Writes what belongs to a complete set of shards: indexes, the description for TensorFlow Datasets, the manifest.

    Args:
        root: where the data set was read.
        shards: all of them.
        settings: what `claim` returned.
        about: more for the manifest.

    Raises:
        InputError: a shard is damaged, or holds other tracklets than it should.
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
    """Makes the index of a split where there is no good one, and compares it with what the shards should hold."""
    try:
        index = load_index(directory, split)
    except InputError:  # missing, or stale: its own reason is of no interest, the shards are checked anew
        rebuild_index(directory, split)
        index = load_index(directory, split)
    for number, shard in enumerate(shards):
        if index.names[index.shards == number].tolist() != [tracklet.name for tracklet in shard.tracklets]:
            raise InputError(f"{shard.path}: does not hold the {len(shard.tracklets)} tracklets that belong there; "
                             "delete it and run again")
    return index


def _have_one_size(index: Index) -> bool:
    """Whether in every tracklet all frames are of the same size."""
    first = np.repeat(index.image_sizes[index.frame_start[:-1]], np.diff(index.frame_start), axis=0)
    return bool((index.image_sizes == first).all())


def _fingerprint(dataset: Dataset) -> str:
    """Changes when a tracklet does: its place, labels, length or the names of its frames."""
    checksum = google_crc32c.Checksum()
    for t in dataset.tracklets:
        checksum.update(json.dumps([t.name, t.split, t.track_id, t.pid, t.camid, t.sources]).encode())
        if t.rectangles is not None:
            checksum.update(t.rectangles.tobytes())
    return f"{len(dataset.tracklets)} with checksum {checksum.hexdigest().decode()}"


def _as_json(settings: dict) -> dict:
    """Settings as they come back from a file: JSON has no tuples."""
    return json.loads(json.dumps(settings))


def _write_json(path: Path, content: dict) -> None:
    write_atomic(path, json.dumps(content, indent=2) + "\n")


def _describe_for_tensorflow(directory: Path, dataset: Dataset, indexes: dict[str, Index]) -> None:
    """Makes `tfds.builder_from_directory(directory)` work. TensorFlow is not needed for it."""
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
