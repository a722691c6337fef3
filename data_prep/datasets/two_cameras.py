"""What iLIDS-VID and PRID-2011 share: two cameras, a folder a person in each, and ten splits of the people.

The queries are the test people under the first camera, the gallery is the same people under the second one: one right
answer for each query. Published figures are rank-k, as means over the ten splits:

    for S in 0 1 2 3 4 5 6 7 8 9; do
        python data_prep/build_tfrecords.py --dataset=ilids --root=ilids-vid --split=$S --out=records/$S --detector=none
        python -m cfaan_jax.main --config=configs/mars.py --workdir=runs/ilids-$S --config.data.records=records/$S \\
            --config.seed=$S
    done
    python -m cfaan_jax.report.summary --out=ilids.json runs/ilids-?/results.json

Seeds keep the splits apart there: the column "seeds" then counts splits.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cfaan_jax.errors import InputError
from data_prep.datasets import FrameFiles
from data_prep.redetect_link.tracklet import Tracklet

SPLITS = 10
_PERSON = re.compile(r"person_?(\d+)")


class Split(NamedTuple):
    """The folder names of the people for training and for test."""

    train: Sequence[str]
    test: Sequence[str]


def existing(root: Path, places: Sequence[str], contents: str) -> Path:
    """The first of some places under `root` that is there; InputError that says what belongs there if none is."""
    for place in places:
        if (root / place).exists():
            return root / place
    raise InputError(f"{root / places[0]}: missing; --root is the folder that holds {contents}")


def chosen(number: int, splits: Sequence[Split], path: Path) -> Split:
    """One of the splits that were read from a file; InputError for another number or a person in both its parts."""
    if not 0 <= number < len(splits):
        raise InputError(f"--split={number}: {path} holds splits 0 to {len(splits) - 1}; give one of them")
    split = splits[number]
    people = [*split.train, *split.test]
    if not split.train or not split.test or len(set(people)) < len(people):
        raise InputError(f"{path}: split {number} has {len(split.train)} people for training and {len(split.test)} for "
                         "test, which must be some each and nobody twice; restore the released file")
    return split


def tracklets(root: Path, cameras: Sequence[Path], split: Split) -> list[Tracklet]:
    """The tracklets of one split: those for training by person and camera, then queries, then the gallery.

    Args:
        root: of the data set.
        cameras: the folder of each camera, the first one being that of the queries.
        split: the people.

    Raises:
        InputError: a person without frames under a camera, or a folder that is not named as a person's.
    """
    rows = {"train": [(person, camid) for person in split.train for camid in range(1, len(cameras) + 1)],
            "query": [(person, 1) for person in split.test],
            "gallery": [(person, camid) for person in split.test for camid in range(2, len(cameras) + 1)]}
    first: Mapping[str, int] = {"train": 0, "query": 0, "gallery": len(rows["query"])}
    return [_tracklet(root, cameras[camid - 1] / person, name, first[name] + row, camid)
            for name, own in rows.items() for row, (person, camid) in enumerate(own)]


def _tracklet(root: Path, folder: Path, split: str, track_id: int, camid: int) -> Tracklet:
    named = _PERSON.fullmatch(folder.name)
    if named is None:
        raise InputError(f"{folder}: not the name of a person's folder, such as person_0001; restore the released file "
                         "of splits")
    frames = sorted(path for path in folder.glob("*.png") if not path.name.startswith("."))
    if not frames:
        raise InputError(f"{folder}: no .png file there, but a split names this person; unpack the data set again")
    sources = tuple(path.relative_to(root).as_posix() for path in frames)
    return Tracklet(name=f"{split}-{folder.name}-C{camid}", split=split, track_id=track_id, pid=int(named[1]),
                    camid=camid, sources=sources, read=FrameFiles(root, sources))
