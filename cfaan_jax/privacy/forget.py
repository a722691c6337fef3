"""Deletes a person from records, features and reports.

    python -m cfaan_jax.forget --pid=17 /data/mars-raw /data/mars-dl runs/mars features
    python -m cfaan_jax.forget --pid=17 /data/mars-raw /data/mars-dl runs/mars features --yes

The first command lists what would go and changes nothing. PATH is a folder of records, a workdir, extracted features, a
label review, or a folder above any of these. A command that was stopped goes on when it is started again. Extracted
features know their tracklets by name alone: give the records with them, or the names.
"""

import argparse
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from cfaan_jax.data.index import present_splits
from cfaan_jax.data.manifest import MANIFEST
from cfaan_jax.deploy import extract
from cfaan_jax.errors import InputError
from cfaan_jax.metrics.search import Search
from cfaan_jax.privacy import deletion
from cfaan_jax.privacy.deletion import Person
from cfaan_jax.report import page
from cfaan_jax.runtime import lock
from cfaan_jax.runtime.files import OLDER, UNFINISHED

_REMAINS = """What this cannot undo:
  weights that were trained with these tracklets (checkpoints, exports) have seen the person: train again without them
  figures that were computed with them (results.json, metrics.csv, tables) stay: evaluate again
  the raw data set, exported images, corrections, logs, copies and backups lie elsewhere: delete the person there too"""
_REPORT_AGAIN = "goes whole; --mode=evaluate, cfaan_jax.report.review or cfaan_jax.demo writes one without them"
_NUMBERED_ANEW = ("video", "synthetic")  # data sets that count their people from 1 for each source


@dataclass
class Places:
    """What lies below the paths of a command, by kind."""

    records: list[Path] = field(default_factory=list)
    features: list[Path] = field(default_factory=list)
    extracted: list[Path] = field(default_factory=list)
    pages: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    left_over: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    def locks(self) -> list[Path]:
        """Of everybody who could be at work there."""
        reports = [path.parent for path in (*self.pages, *self.pictures) if path.parent.name == "report"]
        workdirs = dict.fromkeys([*(path.parent for path in self.features), *(report.parent for report in reports)])
        return [*(folder / lock.BUILDING for folder in self.records),
                *(workdir / name for workdir in workdirs for name in (lock.TRAINING, lock.EVALUATION))]


@dataclass(frozen=True)
class Found:
    """Something to delete.

    Attributes:
        path: a file or folder.
        what: goes, in words.
        delete: does it.
        names: of the person's tracklets.
        dataset: in which the person has that identity; "" where nothing says it.
        tested: whether the person is among the test tracklets, which reports show.
    """

    path: Path
    what: str
    delete: Callable[[], object]
    names: Sequence[str] = ()
    dataset: str = ""
    tested: bool = False


def forget(paths: Sequence[Path], person: Person, really: bool) -> None:
    """Lists what there is of a person below the paths, and deletes it.

    Args:
        paths: folders.
        person: whom.
        really: False: list only.

    Raises:
        InputError: nothing of theirs is there, files that cannot be read or belong to nobody, somebody works there, or
            data sets in which the identity means different people.
    """
    places = look(paths)
    with _alone(places) if really else nullcontext():
        found = find(places, person)
        for each in found:
            print(f"{each.path}: {each.what}")
        for link in places.links:
            print(f"{link}: a symbolic link, which is not followed; give the folder that it leads to")
        if not really:
            print("Nothing was changed; the same command with --yes deletes this.")
            return
        for each in found:
            each.delete()
            print(f"done: {each.path}")
    print(_REMAINS)


def look(paths: Sequence[Path]) -> Places:
    """Everything below the paths that this project writes about people."""
    places, seen = Places(), set()
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: there is no such folder; name records, a workdir or extracted features")
        for place, folders, files in os.walk(path):
            if (folder := Path(place).resolve()) not in seen:  # paths may repeat or hold each other
                seen.add(folder)
                _look_into(Path(place), folders, files, places)
    if not any(vars(places).values()):
        raise InputError(f"{', '.join(map(str, paths))}: holds nothing that this project writes; name records, a "
                         "workdir or extracted features")
    return places


def _look_into(folder: Path, folders: list[str], files: list[str], places: Places) -> None:
    """Adds what lies in one folder; takes out of `folders` what is not to be looked into."""
    places.links += [folder / name for name in folders if (folder / name).is_symlink()]
    left_over = [name for name in (*folders, *files) if _is_left_over(folder / name)]
    places.left_over += [folder / name for name in left_over]
    folders[:] = sorted(set(folders) - set(left_over))
    files = sorted(set(files) - set(left_over))
    if present_splits(folder) or deletion.BEGUN in files:
        if not {MANIFEST, deletion.BEGUN} & set(files):
            raise InputError(f"{folder}: holds records that are not finished, in which nobody can be found; finish "
                             "them with data_prep/build_tfrecords.py, or delete the folder")
        places.records.append(folder)
    if extract.format_of(folder):
        places.extracted.append(folder)
    if page.holds_pages(folder):
        places.pages.append(folder)
    places.features += [folder / name for name in files if name.startswith("features-") and name.endswith(".npz")]
    if folder.name == "report":
        places.pictures += [folder / name for name in files if name.startswith("ranked-") and name.endswith(".png")]


def _is_left_over(path: Path) -> bool:
    """Whether a process that was killed left this behind."""
    return path.name.endswith(UNFINISHED) or path.name.endswith(OLDER) and path.with_suffix("").exists()


def _alone(places: Places) -> ExitStack:
    with ExitStack() as stack:
        for path in places.locks():
            stack.enter_context(lock.exclusive(path, "deletes a person"))
        return stack.pop_all()


def find(places: Places, person: Person) -> list[Found]:
    """What to delete, in that order: whatever the search for the rest relies on comes last.

    Raises:
        InputError: see `forget`.
    """
    records = [each for folder in places.records if (each := _in_records(folder, person))]
    features = [each for path in places.features if (each := _in_features(path, person))]
    labelled = [*features, *records]
    if len(datasets := {each.dataset for each in labelled}) > 1:
        raise InputError(f"the data sets {' and '.join(sorted(datasets))} number their people each in its own way; "
                         "give the folders of one at a time")
    roots = {str(deletion.manifest(each.path).get("root")) for each in records if each.dataset in _NUMBERED_ANEW}
    if len(roots) > 1:
        raise InputError(f"the records made from {' and '.join(sorted(roots))} number their people each in its own "
                         "way; give the folders of one at a time")
    names = person.names.union(*(each.names for each in labelled))
    extracted = [each for folder in places.extracted if (each := _in_extracted(folder, names))]
    # Who is in no test split is in no report; where nothing but reports was given, they are what was meant.
    shown = any(each.tested for each in labelled) if labelled else bool(extracted)
    if not (labelled or extracted or not (places.records or places.features or places.extracted)):
        raise InputError(f"no tracklet of {_named(person)} is there; give the identity as it stands in the records, or "
                         "the names of the tracklets where only extracted features are left")
    pages = [*(Found(path, _REPORT_AGAIN, partial(page.delete, path)) for path in places.pages),
             *(Found(path, _REPORT_AGAIN, path.unlink) for path in places.pictures)]
    left_over = [Found(path, "left by a process that was killed", partial(_remove, path)) for path in places.left_over]
    return [*left_over, *(pages if shown or not (labelled or extracted) else ()), *extracted, *labelled]


def _in_records(folder: Path, person: Person) -> Found | None:
    begun, held = deletion.begun(folder), deletion.find(folder, person)
    if not held and begun is None:
        return None
    what = _counted([each.name for each in held]) if held else "nothing more"
    if held:
        what += f", {sum(each.frames for each in held)} frames in {len({each.shard for each in held})} shards"
    if sheets := deletion.contact_sheets(folder, held):
        what += f", {len(sheets)} contact sheets"
    if begun is not None:
        what += f"; and the deletion of {_named(begun)}, which was begun"
    return Found(folder, what, partial(deletion.delete, folder, person), [each.name for each in held],
                 deletion.manifest(folder)["dataset"], any(each.split != "train" for each in held))


def _in_features(path: Path, person: Person) -> Found | None:
    search = Search.load(path)
    rows = np.array([person.shown(str(name), int(pid)) for name, pid in zip(search.names, search.pids, strict=True)])
    if not rows.any():
        return None
    rest = search.without(rows)
    useful = 0 < rest.num_queries < len(rest.names)
    names = search.names[rows].tolist()
    return Found(path, f"rows of {_counted(names)}" + ("" if useful else "; the file goes, since nothing to search is "
                                                                        "left"),
                 partial(rest.save, path) if useful else path.unlink, names, search.about.dataset, tested=True)


def _in_extracted(folder: Path, names: frozenset[str]) -> Found | None:
    found = extract.read(folder)
    rows = np.array([name in names for name in found.ids], bool)
    if not rows.any():
        return None
    rest = found._replace(ids=[name for name in found.ids if name not in names], features=found.features[~rows])
    gone = [name for name in found.ids if name in names]
    write = partial(extract.write, folder, rest, extract.format_of(folder))
    return Found(folder, f"rows of {_counted(gone)}", write, gone)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} tracklets ({', '.join(names)})"


def _named(person: Person) -> str:
    return " and ".join([*(f"identity {pid}" for pid in sorted(person.pids)), *sorted(person.names)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m cfaan_jax.forget", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="folder to look through")
    parser.add_argument("--pid", type=int, action="append", default=[], help="identity as stored; may be repeated")
    parser.add_argument("--tracklet", action="append", default=[], metavar="NAME",
                        help="one more tracklet that shows the person, such as a distractor; may be repeated")
    parser.add_argument("--yes", action="store_true", help="delete; without it this is a list of what would go")
    flags = parser.parse_args(arguments)
    if not flags.pid and not flags.tracklet:
        raise InputError("--pid is missing: whom to delete? --tracklet=NAME names tracklets one by one")
    if low := [pid for pid in flags.pid if pid < 1]:
        raise InputError(f"--pid={low[0]}: is no person (0 are distractors, -1 is junk); name the tracklets that show "
                         "the person, --tracklet=NAME")
    forget(flags.paths, Person(frozenset(flags.pid), frozenset(flags.tracklet)), flags.yes)
