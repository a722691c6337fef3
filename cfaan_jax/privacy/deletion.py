"""Tracklets taken out of a folder of finished records, for good: shards, indexes, manifest and description follow.

While this is under way the manifest lies aside as `deleting.json`, so that nobody takes the folder for whole, and the
same call again finishes it. Frames that stay keep their bytes.
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

BEGUN = "deleting.json"


@dataclass(frozen=True)
class Person:
    """Whom to delete: everybody with one of these identities, and these tracklets whoever they show."""

    pids: frozenset[int]
    names: frozenset[str]

    def shown(self, name: str, pid: int) -> bool:
        """Whether a tracklet of that name and identity is one of theirs."""
        return pid in self.pids or name in self.names


@dataclass(frozen=True)
class Held:
    """A tracklet of theirs in a shard."""

    shard: Path
    split: str
    name: str
    frames: int


def begun(directory: Path) -> Person | None:
    """Whose deletion in this folder was begun and not finished."""
    try:
        request = json.loads((directory / BEGUN).read_text())["request"]
        return Person(frozenset(request["pids"]), frozenset(request["names"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory / BEGUN}: damaged ({error}); delete the folder {directory} and build the records "
                         "again without this person") from None


def manifest(directory: Path) -> dict:
    """The manifest of a folder of records, also while it lies aside."""
    path = directory / BEGUN
    return json.loads(path.read_text())["manifest"] if path.exists() else load_manifest(directory)


def find(directory: Path, person: Person) -> list[Held]:
    """Their tracklets, read from the shards themselves, each verified."""
    places = [(split, shard) for split in present_splits(directory) for shard in _shards(directory, split)]
    held = []
    with Progress(f"looking through {directory}", len(places)) as progress:
        for split, shard in places:
            held += [Held(shard, split, record.name, len(record.frames)) for record, _ in _records(shard)
                     if person.shown(record.name, record.pid)]
            progress.advance()
    return held


def delete(directory: Path, person: Person) -> None:
    """Deletes their tracklets, in a folder in which nobody else works, and finishes a deletion that was begun.

    Raises:
        InputError: the folder holds no finished records, or damaged ones.
    """
    earlier = begun(directory)
    if earlier is not None:
        person = Person(person.pids | earlier.pids, person.names | earlier.names)
    held = find(directory, person)
    content = _begin(directory, person)
    _delete_pictures(directory, held)
    for split in {each.split for each in held}:
        index_path(directory, split).unlink(missing_ok=True)  # it names them
    for shard in {each.shard for each in held}:
        _rewrite(shard, person)
    indexes = {split: index for split in present_splits(directory) if (index := _index(directory, split)) is not None}
    _describe(directory, indexes)
    content["counts"] = {split: counts(indexes[split]) for split in content["counts"] if split in indexes}
    if "tracklets" in content.get("settings", {}):  # so that packing the same data set again does not bring them back
        left = sum(count["tracklets"] for count in content["counts"].values())
        content["settings"]["tracklets"] = f"{left} left when a person was deleted"
    write_atomic(directory / MANIFEST, json.dumps(content, indent=2) + "\n")
    (directory / BEGUN).unlink()


def _records(shard: Path) -> Iterator[tuple]:
    """Every record of a shard, and its payload."""
    for position, (_, payload) in enumerate(example.read_file(shard)):
        try:
            yield decode(payload), payload
        except ValueError as error:
            raise InputError(f"{shard}: record {position}: {error}; nobody can be found in a damaged file; restore it, "
                             "or delete the folder") from None


def _begin(directory: Path, person: Person) -> dict:
    """The manifest, which lies aside from now on together with whom to delete."""
    content = manifest(directory)
    request = {"pids": sorted(person.pids), "names": sorted(person.names)}
    write_atomic(directory / BEGUN, json.dumps({"request": request, "manifest": content}, indent=2) + "\n")
    (directory / MANIFEST).unlink(missing_ok=True)
    return content


def _delete_pictures(directory: Path, held: list[Held]) -> None:
    """Deletes their contact sheets, and the summary, which counts their frames."""
    (directory / SUMMARY).unlink(missing_ok=True)
    for path in contact_sheets(directory, held):
        path.unlink()


def contact_sheets(directory: Path, held: list[Held]) -> list[Path]:
    """Those that show them."""
    names = {contact_sheet(each.split, each.name) for each in held}
    # Looked up among the files that are there: a name may hold anything, "../" too.
    return sorted(path for path in (directory / PREVIEWS).glob("*.png") if path.name in names)


def _rewrite(shard: Path, person: Person) -> None:
    with atomic_file(shard) as file:
        for record, payload in _records(shard):
            if not person.shown(record.name, record.pid):
                file.write(example.pack_tfrecord(payload))


def _shards(directory: Path, split: str) -> list[Path]:
    """Those of a split that holds tracklets; of one that lost all of them some may be gone already."""
    there = list(directory.glob(f"*-{split}.tfrecord-*"))
    return local_shards(directory, split) if any(path.stat().st_size for path in there) else []


def _index(directory: Path, split: str) -> Index | None:
    """The index, made anew where there is no good one; None for a split without tracklets, whose files go."""
    if not _shards(directory, split):
        for path in (*directory.glob(f"*-{split}.tfrecord-*"), index_path(directory, split)):
            path.unlink(missing_ok=True)
        return None
    try:
        return load_index(directory, split)
    except InputError:  # deleted, or stale
        rebuild_index(directory, split)
        return load_index(directory, split)


def _describe(directory: Path, indexes: dict[str, Index]) -> None:
    """Brings the description for TensorFlow Datasets, if there is one, up to the shards."""
    path = directory / DATASET_INFO
    if path.exists():
        described = json.loads(path.read_text())
        there = [entry["name"] for entry in described["splits"]]
        described["splits"] = [tensorflow_split(split, indexes[split]) for split in there if split in indexes]
        write_atomic(path, json.dumps(described, indent=2) + "\n")
