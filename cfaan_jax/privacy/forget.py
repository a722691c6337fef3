"""Deletes a person from records, features and reports.

    python -m cfaan_jax.forget --pid=17 /data/mars-raw /data/mars-dl runs/mars features
    python -m cfaan_jax.forget --pid=17 /data/mars-raw /data/mars-dl runs/mars features --yes

The first command lists what would be deleted and changes nothing. PATH is a folder of records, a workdir, extracted
features, a label review, or a folder above any of these. A stopped command resumes when it is started again. Extracted
features have names of tracklets but no identities: give the records with them, or the names.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from cfaan_jax.data.index import present_splits
from cfaan_jax.data.manifest import MANIFEST
from cfaan_jax.deploy import extract
from cfaan_jax.errors import InputError, shortened
from cfaan_jax.metrics.search import Search
from cfaan_jax.privacy import deletion
from cfaan_jax.privacy.deletion import Person
from cfaan_jax.report import page
from cfaan_jax.runtime import lock
from cfaan_jax.runtime.command import CommandParser
from cfaan_jax.runtime.files import OLDER, UNFINISHED

_REMAINS = """What this cannot undo:
  weights that were trained with these tracklets (checkpoints, exports) have seen the person: train again without them
  metrics that were computed with them (results.json, metrics.csv, tables) stay: evaluate again
  the raw data set, exported images, corrections, logs, copies and backups are elsewhere: delete the person there too"""
_REPORT_AGAIN = "all of it; --mode=evaluate, cfaan_jax.report.review or cfaan_jax.demo writes one without the person"
_OWN_NUMBERS = ("video", "synthetic")  # data sets that number their people from 1 for every source


@dataclass
class Contents:
    """What is below the paths of a command, by kind."""

    records: list[Path] = field(default_factory=list)
    features: list[Path] = field(default_factory=list)
    extracted: list[Path] = field(default_factory=list)
    pages: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    def locks(self) -> list[Path]:
        """The locks of all commands that could work there."""
        reports = [path.parent for path in (*self.pages, *self.pictures) if path.parent.name == "report"]
        workdirs = dict.fromkeys([*(path.parent for path in self.features), *(report.parent for report in reports)])
        return [*(folder / lock.BUILDING for folder in self.records),
                *(workdir / name for workdir in workdirs for name in (lock.TRAINING, lock.EVALUATION))]


@dataclass(frozen=True)
class Removal:
    """Something to delete."""

    path: Path  # a file or folder
    what: str  # the part that is deleted, in words
    delete: Callable[[], object]  # does it
    names: Sequence[str] = ()  # of the person's tracklets
    dataset: str = ""  # in which the person has that identity; "" if unknown
    tested: bool = False  # whether the person is among the test tracklets, which reports show


def forget(paths: Sequence[Path], person: Person, delete: bool) -> None:
    """Lists everything about a person below the folders, and deletes it if `delete` is true.

    Raises:
        InputError: there is nothing about the person, files that cannot be read or are of an unfinished command,
            another process works there, or data sets in which the identity means different people.
    """
    contents = look(paths)
    with ExitStack() as locks:
        for path in contents.locks() if delete else ():
            locks.enter_context(lock.exclusive(path, "deletes a person"))
        removals = find(contents, person)
        for removal in removals:
            print(f"{removal.path}: {removal.what}")
        for link in contents.links:
            print(f"{link}: a symbolic link, which is not followed; name the folder that it leads to")
        if not delete:
            print("Nothing was changed; the same command with --yes deletes this.")
            return
        for removal in removals:
            removal.delete()
            print(f"done: {removal.path}")
    print(_REMAINS)


def look(paths: Sequence[Path]) -> Contents:
    """Everything below the paths that this project writes about people."""
    contents, seen = Contents(), set()
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder; name records, a workdir or extracted features")
        for name, folders, files in os.walk(path):
            if (folder := Path(name).resolve()) not in seen:  # paths may repeat or contain each other
                seen.add(folder)
                _add_folder(Path(name), folders, files, contents)
    if not any(vars(contents).values()):
        raise InputError(f"{shortened(paths)}: holds nothing that this project writes; name records, a workdir or "
                         "extracted features")
    return contents


def _add_folder(folder: Path, folders: list[str], files: list[str], contents: Contents) -> None:
    """Adds the content of one folder; removes unfinished folders from `folders`, which are not searched."""
    contents.links += [folder / name for name in folders if (folder / name).is_symlink()]
    unfinished = {name for name in (*folders, *files) if _is_unfinished(folder / name)}
    contents.unfinished += [folder / name for name in sorted(unfinished)]
    folders[:] = sorted(set(folders) - unfinished)
    files = sorted(set(files) - unfinished)
    if present_splits(folder) or deletion.PENDING in files:
        if not {MANIFEST, deletion.PENDING} & set(files):
            raise InputError(f"{folder}: holds unfinished records, which cannot be searched for a person; finish them "
                             "with data_prep/build_tfrecords.py, or delete the folder")
        contents.records.append(folder)
    if extract.format_of(folder):
        contents.extracted.append(folder)
    if page.holds_pages(folder):
        contents.pages.append(folder)
    contents.features += [folder / name for name in files if name.startswith("features-") and name.endswith(".npz")]
    if folder.name == "report":
        contents.pictures += [folder / name for name in files if name.startswith("ranked-") and name.endswith(".png")]


def _is_unfinished(path: Path) -> bool:
    """Whether a process that was killed left this."""
    return path.name.endswith(UNFINISHED) or path.name.endswith(OLDER) and path.with_suffix("").exists()


def find(contents: Contents, person: Person) -> list[Removal]:
    """What to delete, in that order: what the search for the rest depends on comes last. Errors as of `forget`."""
    records = [removal for folder in contents.records if (removal := _in_records(folder, person))]
    labelled = [*(removal for path in contents.features if (removal := _in_features(path, person))), *records]
    if len(datasets := {removal.dataset for removal in labelled}) > 1:
        raise InputError(f"the data sets {shortened(sorted(datasets))} number their people differently; give the "
                         "folders of one data set")
    roots = {str(deletion.manifest(removal.path).get("root")) for removal in records if removal.dataset in _OWN_NUMBERS}
    if len(roots) > 1:
        raise InputError(f"the records from {shortened(sorted(roots))} number their people differently; give the "
                         "folders of one of them")
    names = person.names.union(*(removal.names for removal in labelled))
    extracted = [removal for folder in contents.extracted if (removal := _in_extracted(folder, names))]
    # Reports show only people of test splits; if only reports are given, they are meant.
    shown = any(removal.tested for removal in labelled) if labelled else bool(extracted)
    if not (labelled or extracted) and (contents.records or contents.features or contents.extracted):
        raise InputError(f"no tracklet of {_description(person)} is there; give the identity as the records have it, "
                         "or with extracted features alone the names of the tracklets")
    pages = [*(Removal(path, _REPORT_AGAIN, partial(page.delete, path)) for path in contents.pages),
             *(Removal(path, _REPORT_AGAIN, path.unlink) for path in contents.pictures)]
    unfinished = [Removal(path, "left by a process that was killed", partial(_remove, path))
                  for path in contents.unfinished]
    return [*unfinished, *(pages if shown or not (labelled or extracted) else ()), *extracted, *labelled]


def _in_records(folder: Path, person: Person) -> Removal | None:
    earlier, tracklets = deletion.pending(folder), deletion.find(folder, person)
    if not tracklets and earlier is None:
        return None
    what, names = "nothing more", [tracklet.name for tracklet in tracklets]
    if tracklets:
        what = (f"{_count(names)}, {sum(tracklet.frames for tracklet in tracklets)} frames in "
                f"{len({tracklet.shard for tracklet in tracklets})} shards")
    if sheets := deletion.contact_sheets(folder, tracklets):
        what += f", {len(sheets)} contact sheets"
    if earlier is not None:
        what += f"; and the unfinished deletion of {_description(earlier)}"
    return Removal(folder, what, partial(deletion.delete, folder, person), names, deletion.manifest(folder)["dataset"],
                   tested=any(tracklet.split != "train" for tracklet in tracklets))


def _in_features(path: Path, person: Person) -> Removal | None:
    search = Search.load(path)
    rows = np.array([person.includes(str(name), int(pid))
                     for name, pid in zip(search.names, search.pids, strict=True)])
    if not rows.any():
        return None
    rest, names = search.without(rows), search.names[rows].tolist()
    useful = 0 < rest.num_queries < len(rest.names)
    what = f"rows of {_count(names)}{'' if useful else ', and the file, in which nothing to search is left'}"
    return Removal(path, what, partial(rest.save, path) if useful else path.unlink, names, search.about.dataset,
                   tested=True)


def _in_extracted(folder: Path, names: frozenset[str]) -> Removal | None:
    extracted = extract.read(folder)
    rows = np.array([name in names for name in extracted.ids], bool)
    if not rows.any():
        return None
    rest = extracted._replace(ids=[name for name in extracted.ids if name not in names],
                              features=extracted.features[~rows])
    own = [name for name in extracted.ids if name in names]
    write = partial(extract.write, folder, rest, extract.format_of(folder))
    return Removal(folder, f"rows of {_count(own)}", write, own)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} tracklets ({', '.join(names)})"


def _description(person: Person) -> str:
    return " and ".join([*(f"identity {pid}" for pid in sorted(person.pids)), *sorted(person.names)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = CommandParser("python -m cfaan_jax.forget", __doc__)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="folder to look through")
    parser.add_argument("--pid", type=int, action="append", default=[], help="identity as stored; may be repeated")
    parser.add_argument("--tracklet", action="append", default=[], metavar="NAME",
                        help="one more tracklet that shows the person, such as a distractor; may be repeated")
    parser.add_argument("--yes", action="store_true", help="delete; without it, list what would be deleted")
    flags = parser.parse_args(arguments)
    if not flags.pid and not flags.tracklet:
        raise InputError("--pid is missing: give the identity to delete, or tracklets one by one: --tracklet=NAME")
    if low := [pid for pid in flags.pid if pid < 1]:
        raise InputError(f"--pid={low[0]}: is not a person (0 is a distractor, -1 junk); name the tracklets of the "
                         "person: --tracklet=NAME")
    forget(flags.paths, Person(frozenset(flags.pid), frozenset(flags.tracklet)), flags.yes)
