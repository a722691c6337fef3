"""iLIDS-VID as released: 300 people under two cameras of an airport, and ten splits of them.

    i-LIDS-VID/sequences/cam1/person001/cam1_person001_00317.png
    train-test people splits/train_test_splits_ilidsvid.mat    key ls_set [10, 300]

A row of `ls_set` counts the folders of people in the order of their names, from 1 on; its first half is for test. Wang
et al., Person Re-Identification by Video Ranking, ECCV 2014. Layout and rule are those that torchreid reads; this
reader has not been run on a real copy. How its figures are made: `data_prep.datasets.two_cameras`.
"""

from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.matlab import read_integers
from data_prep.datasets import Dataset, two_cameras
from data_prep.datasets.two_cameras import SPLITS, Split

_CONTENTS = "i-LIDS-VID and 'train-test people splits'"


def open(root: Path, *, split: int = 0) -> Dataset:
    """Opens one split of the data set in `root`.

    Args:
        root: the folder that holds i-LIDS-VID and the folder of splits.
        split: from 0 to 9.

    Raises:
        InputError: a missing folder or file, cameras with different people, or splits of other people.
    """
    sequences = two_cameras.existing(root, ["i-LIDS-VID/sequences"], _CONTENTS)
    path = two_cameras.existing(root, ["train-test people splits/train_test_splits_ilidsvid.mat"], _CONTENTS)
    cameras = [two_cameras.existing(sequences, [name], "cam1 and cam2") for name in ("cam1", "cam2")]
    people, others = (sorted(folder.name for folder in camera.iterdir() if not folder.name.startswith("."))
                      for camera in cameras)
    if people != others:
        differing = sorted(set(people) ^ set(others))
        raise InputError(f"{sequences}: {differing[0]} is under one camera only; unpack the data set again")
    table = read_integers(path, "ls_set")
    if table.shape != (SPLITS, len(people)) or (np.sort(table, axis=1) != np.arange(1, len(people) + 1)).any():
        raise InputError(f"{path}: ls_set of shape {table.shape} does not number the {len(people)} people of "
                         f"{sequences} in {SPLITS} rows; restore the released file")
    half = len(people) // 2
    splits = [Split(*([people[row - 1] for row in sorted(part)] for part in (numbers[half:], numbers[:half])))
              for numbers in table.tolist()]
    return Dataset("ilids", two_cameras.tracklets(root, cameras, two_cameras.chosen(split, splits, path)))
