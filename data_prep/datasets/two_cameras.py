"""iLIDS-VID and PRID-2011 as released: two cameras with one folder per person, and ten splits of the people.

    i-LIDS-VID/sequences/cam1/person001/cam1_person001_00317.png       iLIDS-VID: 300 people in an airport
    train-test people splits/train_test_splits_ilidsvid.mat            key ls_set [10, 300]

    prid_2011/multi_shot/cam_a/person_0001/0001.png                    PRID-2011, or multi_shot itself under --root
    splits_prid2011.json                                               [{"train": ["person_0004", ...], "test": [...]}]

A row of `ls_set` numbers the folders of people in the order of their names, from 1; its first half is for test. Of the
200 people in both cameras of PRID-2011 the splits have the 178 with longer sequences, half of them for test; the file
is torchreid's, and torchreid's documentation names its source. The queries are the test people in the first camera, the
gallery is the same people in the second one, so every query has one correct answer. Published metrics are rank-k, as
means over the ten splits; the documentation of the data sets has the commands.

Wang et al., Person Re-Identification by Video Ranking, ECCV 2014 (iLIDS-VID and the rules of both). Hirzer et al.,
Person Re-Identification by Descriptive and Discriminative Classification, SCIA 2011 (PRID-2011). Layout and rules are
those that torchreid reads, and the form of splits_prid2011.json that of a public copy; these readers have not been run
on real copies of the images.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cfaan_jax.errors import InputError, reason
from cfaan_jax.runtime.matlab import read_integers
from data_prep.datasets import Dataset, FrameFiles
from data_prep.redetect_link.tracklet import Tracklet

SPLITS = 10
_ILIDS, _PRID = "i-LIDS-VID and 'train-test people splits'", "prid_2011 and splits_prid2011.json of torchreid"
_PERSON = re.compile(r"person_?(\d+)")


class Split(NamedTuple):
    """The folder names of the people for training and for test."""

    train: Sequence[str]
    test: Sequence[str]


def open_ilids(root: Path, *, split: int = 0) -> Dataset:
    """Opens one split of iLIDS-VID.

    Args:
        root: the folder that holds i-LIDS-VID and the folder of splits.
        split: from 0 to 9.

    Raises:
        InputError: a missing folder or file, cameras with different people, or splits of other people.
    """
    sequences = _existing(root, ["i-LIDS-VID/sequences"], _ILIDS)
    path = _existing(root, ["train-test people splits/train_test_splits_ilidsvid.mat"], _ILIDS)
    cameras = [_existing(sequences, [name], "cam1 and cam2") for name in ("cam1", "cam2")]
    people, others = (sorted(folder.name for folder in camera.iterdir() if not folder.name.startswith("."))
                      for camera in cameras)
    if people != others:
        raise InputError(f"{sequences}: {min(set(people) ^ set(others))} is in one camera only; unpack the data set "
                         "again")
    table = read_integers(path, "ls_set")
    if table.shape != (SPLITS, len(people)) or (np.sort(table, axis=1) != np.arange(1, len(people) + 1)).any():
        raise InputError(f"{path}: ls_set of shape {table.shape} does not number the {len(people)} people of "
                         f"{sequences} in {SPLITS} rows; restore the released file")
    half = len(people) // 2
    splits = [Split(*([people[row - 1] for row in sorted(part)] for part in (numbers[half:], numbers[:half])))
              for numbers in table.tolist()]
    return Dataset("ilids", _tracklets(root, cameras, _select(split, splits, path)))


def open_prid(root: Path, *, split: int = 0) -> Dataset:
    """Opens one split of PRID-2011.

    Args:
        root: the folder that holds prid_2011, or multi_shot, and the file of splits.
        split: from 0 to 9.

    Raises:
        InputError: a missing folder or file, unreadable splits, or a person without frames in a camera.
    """
    shots = _existing(root, ["prid_2011/multi_shot", "multi_shot"], _PRID)
    path = _existing(root, ["splits_prid2011.json"], _PRID)
    cameras = [_existing(shots, [name], "cam_a and cam_b") for name in ("cam_a", "cam_b")]
    try:
        splits = [Split(*(sorted(names[part]) for part in Split._fields)) for names in json.loads(path.read_text())]
        if not all(isinstance(name, str) for people in splits for part in people for name in part):
            raise ValueError("a name that is not a string")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{path}: its splits cannot be read ({reason(error)}); fetch the file "
                         "again") from None
    return Dataset("prid", _tracklets(root, cameras, _select(split, splits, path)))


def _existing(root: Path, paths: Sequence[str], contents: str) -> Path:
    """Returns the first of `paths` that exists under `root`; otherwise InputError, with the `contents` of --root."""
    for path in paths:
        if (root / path).exists():
            return root / path
    raise InputError(f"{root / paths[0]}: missing; --root must be the folder that holds {contents}")


def _select(number: int, splits: Sequence[Split], path: Path) -> Split:
    """Returns one of the splits of a file; InputError for another number, an empty part, or a person in both parts."""
    if not 0 <= number < len(splits):
        raise InputError(f"--split={number}: {path} holds splits 0 to {len(splits) - 1}; choose one of them")
    split = splits[number]
    people = [*split.train, *split.test]
    if not split.train or not split.test or len(set(people)) < len(people):
        raise InputError(f"{path}: split {number} has {len(split.train)} people for training and {len(split.test)} for "
                         "test; both need people, and nobody may occur twice; restore the released file")
    return split


def _tracklets(root: Path, cameras: Sequence[Path], split: Split) -> list[Tracklet]:
    """Returns the tracklets of one split: training by person and camera, then queries, then the gallery."""
    rows = {"train": [(person, camid) for person in split.train for camid in range(1, len(cameras) + 1)],
            "query": [(person, 1) for person in split.test],
            "gallery": [(person, camid) for person in split.test for camid in range(2, len(cameras) + 1)]}
    first_ids = {"train": 0, "query": 0, "gallery": len(rows["query"])}
    return [_tracklet(root, cameras[camid - 1] / person, name, first_ids[name] + row, camid)
            for name, split_rows in rows.items() for row, (person, camid) in enumerate(split_rows)]


def _tracklet(root: Path, folder: Path, split: str, track_id: int, camid: int) -> Tracklet:
    match = _PERSON.fullmatch(folder.name)
    if match is None:
        raise InputError(f"{folder}: not the name of a person's folder, such as person_0001; restore the released file "
                         "of splits")
    frames = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    if not frames:
        raise InputError(f"{folder}: holds no .png file, but a split names this person; unpack the data set again")
    sources = tuple(path.relative_to(root).as_posix() for path in frames)
    return Tracklet(name=f"{split}-{folder.name}-C{camid}", split=split, track_id=track_id, pid=int(match[1]),
                    camid=camid, sources=sources, read=FrameFiles(root, sources))
