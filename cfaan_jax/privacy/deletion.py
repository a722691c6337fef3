"""Deletes tracklets from a folder of finished records: from shards, indexes, manifest and description.

Meanwhile the manifest is named `deleting.json`, so that nothing reads the folder as complete, and the same call again
finishes the deletion. The other frames keep their bytes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cfaan_jax.data import example
from cfaan_jax.data.description import DATASET_INFO, PREVIEWS, SUMMARY, contact_sheet, counts, tensorflow_split
from cfaan_jax.data.index import Index, index_path, load_index, local_shards, present_splits
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import MANIFEST, load_manifest
from cfaan_jax.data.tracklet_record import decode
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import atomic_file, write_atomic
from cfaan_jax.runtime.progress import Progress

PENDING = "deleting.json"


@dataclass(frozen=True)
class Person:
    """Whom to delete: all tracklets with one of these identities or one of these names."""

    pids: frozenset[int]
    names: frozenset[str]

    def includes(self, name: str, pid: int) -> bool:
        """Whether a tracklet of that name and identity is deleted."""
        return pid in self.pids or name in self.names


@dataclass(frozen=True)
class StoredTracklet:
    """One of the person's tracklets in a shard."""

    shard: Path
    split: str
    name: str
    frames: int


def pending(directory: Path) -> Person | None:
    """The person of an unfinished deletion in this folder."""
    try:
        request = json.loads((directory / PENDING).read_text())["request"]
        return Person(frozenset(request["pids"]), frozenset(request["names"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory / PENDING}: damaged ({error}); delete the folder {directory} and build the "
                         "records again without this person") from None


def manifest(directory: Path) -> dict:
    """The manifest of a folder of records, also during a deletion."""
    path = directory / PENDING
    return json.loads(path.read_text())["manifest"] if path.exists() else load_manifest(directory)


def find(directory: Path, person: Person) -> list[StoredTracklet]:
    """The person's tracklets, read from the verified shards themselves."""
    shards = [(split, shard) for split in present_splits(directory) for shard in _shards(directory, split)]
    tracklets = []
    with Progress(f"looking through {directory}", len(shards)) as progress:
        for split, shard in shards:
            tracklets += [StoredTracklet(shard, split, record.name, len(record.frames)) for record, _ in _records(shard)
                          if person.includes(record.name, record.pid)]
            progress.advance()
    return tracklets


def delete(directory: Path, person: Person) -> None:
    """Deletes the person's tracklets and finishes an earlier deletion; the caller holds the lock of the folder.

    InputError for a folder without finished records, or with damaged ones.
    """
    if earlier := pending(directory):
        person = Person(person.pids | earlier.pids, person.names | earlier.names)
    tracklets, content = find(directory, person), manifest(directory)
    request = {"pids": sorted(person.pids), "names": sorted(person.names)}
    write_atomic(directory / PENDING, json.dumps({"request": request, "manifest": content}, indent=2) + "\n")
    (directory / MANIFEST).unlink(missing_ok=True)
    for path in (*contact_sheets(directory, tracklets), directory / SUMMARY):  # the summary counts their frames
        path.unlink(missing_ok=True)
    for split in {tracklet.split for tracklet in tracklets}:
        index_path(directory, split).unlink(missing_ok=True)  # it names them
    for shard in {tracklet.shard for tracklet in tracklets}:
        _rewrite(shard, person)
    indexes = {split: index for split in present_splits(directory) if (index := _index(directory, split)) is not None}
    _update_description(directory, indexes)
    content["counts"] = {split: counts(indexes[split]) for split in content["counts"] if split in indexes}
    if "tracklets" in content.get("settings", {}):  # so that packing the same data set again is refused
        left = sum(count["tracklets"] for count in content["counts"].values())
        content["settings"]["tracklets"] = f"{left} left when a person was deleted"
    write_atomic(directory / MANIFEST, json.dumps(content, indent=2) + "\n")
    (directory / PENDING).unlink()


def _records(shard: Path) -> Iterator[tuple]:
    """The records of a shard, with their payloads."""
    for position, (_, payload) in enumerate(example.read_file(shard)):
        try:
            yield decode(payload), payload
        except ValueError as error:
            raise InputError(f"{shard}: record {position}: {error}; a damaged file cannot be searched for a person: "
                             "restore it, or delete the folder") from None


def contact_sheets(directory: Path, tracklets: list[StoredTracklet]) -> list[Path]:
    """The contact sheets of tracklets."""
    names = {contact_sheet(tracklet.split, tracklet.name) for tracklet in tracklets}
    # Compared with the files of the folder: a name may hold anything, "../" too.
    return sorted(path for path in (directory / PREVIEWS).glob("*.png") if path.name in names)


def _rewrite(shard: Path, person: Person) -> None:
    with atomic_file(shard) as file:
        for record, payload in _records(shard):
            if not person.includes(record.name, record.pid):
                file.write(example.pack_tfrecord(payload))


def _shards(directory: Path, split: str) -> list[Path]:
    """The shards of a split with tracklets; some shards of an emptied split may be deleted already."""
    paths = list(directory.glob(f"*-{split}.tfrecord-*"))
    return local_shards(directory, split) if any(path.stat().st_size for path in paths) else []


def _index(directory: Path, split: str) -> Index | None:
    """The index, rebuilt where needed; None for a split without tracklets, whose files are deleted."""
    if not _shards(directory, split):
        for path in (*directory.glob(f"*-{split}.tfrecord-*"), index_path(directory, split)):
            path.unlink(missing_ok=True)
        return None
    try:
        return load_index(directory, split)
    except InputError:  # deleted, or stale
        rebuild_index(directory, split)
        return load_index(directory, split)


def _update_description(directory: Path, indexes: dict[str, Index]) -> None:
    """Updates the description for TensorFlow Datasets, if there is one."""
    path = directory / DATASET_INFO
    if path.exists():
        description = json.loads(path.read_text())
        splits = [entry["name"] for entry in description["splits"]]
        description["splits"] = [tensorflow_split(split, indexes[split]) for split in splits if split in indexes]
        write_atomic(path, json.dumps(description, indent=2) + "\n")
