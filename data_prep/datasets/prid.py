"""PRID-2011 as released, `multi_shot`, with the ten splits that its users share.

    prid_2011/multi_shot/cam_a/person_0001/0001.png    or multi_shot itself under --root
    splits_prid2011.json                               [{"train": ["person_0004", ...], "test": [...]}, ...]

Of the 200 people seen by both cameras the splits keep 178, those of longer sequences (Wang et al., Person
Re-Identification by Video Ranking, ECCV 2014), 89 for training and 89 for test. The file is torchreid's: its
documentation says where it is to be had. Hirzer et al., Person Re-Identification by Descriptive and Discriminative
Classification, SCIA 2011. The layout is the one that torchreid reads, the form of the splits was seen in a public copy
of that file; this reader has not been run on a real copy of the images. How its figures are made:
`data_prep.datasets.two_cameras`.
"""

import json
from pathlib import Path

from cfaan_jax.errors import InputError
from data_prep.datasets import Dataset, two_cameras
from data_prep.datasets.two_cameras import Split

_FILE = "splits_prid2011.json"


def open(root: Path, *, split: int = 0) -> Dataset:
    """Opens one split of the data set in `root`.

    Args:
        root: the folder that holds prid_2011, or multi_shot, and the file of splits.
        split: from 0 to 9.

    Raises:
        InputError: a missing folder or file, unreadable splits, or a person without frames under a camera.
    """
    shots = two_cameras.existing(root, ["prid_2011/multi_shot", "multi_shot"], f"prid_2011 and {_FILE}")
    path = two_cameras.existing(root, [_FILE], f"prid_2011 and {_FILE}, whose source torchreid's documentation names")
    cameras = [two_cameras.existing(shots, [name], "cam_a and cam_b") for name in ("cam_a", "cam_b")]
    chosen = two_cameras.chosen(split, _read(path), path)
    return Dataset("prid", two_cameras.tracklets(root, cameras, chosen))


def _read(path: Path) -> list[Split]:
    try:
        splits = [Split(*(sorted(each[part]) for part in ("train", "test"))) for each in json.loads(path.read_text())]
        if not all(isinstance(name, str) for split in splits for part in split for name in part):
            raise ValueError("a name that is no text")
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: no readable splits ({reason}); fetch the file again") from None
    return splits
