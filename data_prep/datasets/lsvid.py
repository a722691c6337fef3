"""LS-VID as released: 15 cameras, 3,772 people in long sequences, with lists of tracklets.

    tracklet_train, tracklet_test      the frames, in folders of their own
    list_sequence/list_seq_train.txt   rows (start of the names of a tracklet's frames, identity), from --root
    list_sequence/list_seq_test.txt    the same
    test/data/info_test.mat            key query, rows of the test list that are queries, from 1

The lists may also lie in `info` (info/list_sequence, info/data), as some public code expects. The third part of a
frame's name, between underscores, is its camera. -1 is junk. Identities may start at 0 there, which stands for
distractors here, so all others are stored one higher. The lists for validation are left out. The gallery is the rest
of the test list, which is `mars` among the protocols; `mars_with_queries` keeps the queries. Li et al., Global-Local
Temporal Representations for Video Person Re-Identification, ICCV 2019.

Layout and rules are those that public loaders of this data set read; this reader has not been run on a real copy.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.matlab import read_integers
from data_prep.datasets import Dataset, FrameFiles
from data_prep.redetect_link.tracklet import Tracklet

CAMERAS = 15
_ROW = re.compile(r"(\S+)\s+(-?\d+)")
_PLACES = (("list_sequence", "test/data"), ("info/list_sequence", "info/data"))
_SEVEN = b"MATLAB 7.3"  # how the later kind of MATLAB files begins, which is HDF5


def open(root: Path) -> Dataset:
    """Opens the data set in `root`.

    Raises:
        InputError: a missing or broken list, a tracklet without frames or of several cameras; or h5py is not
            installed, which MATLAB files of level 7.3 need.
    """
    lists, data = next(((root / lists, root / data) for lists, data in _PLACES if (root / lists).is_dir()),
                       (root / _PLACES[0][0], None))
    if data is None:
        raise InputError(f"{lists}: missing; --root is the folder LS-VID that holds list_sequence, tracklet_train and "
                         "tracklet_test")
    train, test = (_read_list(lists / f"list_seq_{part}.txt") for part in ("train", "test"))
    queries = _read_queries(data / "info_test.mat", len(test))
    listed = cache(_names)
    tracklets = [_tracklet(root, listed, "train", row, *each) for row, each in enumerate(train)]
    tested = [_tracklet(root, listed, "query" if row in queries else "gallery", row, *each)
              for row, each in enumerate(test)]
    return Dataset("lsvid", tracklets + sorted(tested, key=lambda tracklet: tracklet.split == "gallery"))


def _read_list(path: Path) -> list[tuple[str, int]]:
    """The beginning of the names of each tracklet's frames, and its identity."""
    if not path.is_file():
        raise InputError(f"{path}: missing; unpack the data set again")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        found = _ROW.fullmatch(line.strip())
        if line.strip() and (found is None or {"..", "/"} & set(PurePosixPath(found[1]).parts)):
            raise InputError(f"{path}: line {number} is no row (start of the frames' names, identity): {line[:80]!r}; "
                             "restore the released file")
        if found:
            rows.append((found[1], int(found[2])))
    if not rows:
        raise InputError(f"{path}: empty; restore the released file")
    return rows


def _read_queries(path: Path, tracklets: int) -> set[int]:
    """The rows of the test list that are queries, from 0."""
    if not path.is_file():
        raise InputError(f"{path}: missing; unpack the data set again")
    with path.open("rb") as file:
        seven = file.read(len(_SEVEN)) == _SEVEN
    rows = (_of_hdf5(path) if seven else read_integers(path, "query")).ravel()
    if not len(rows) or rows.min() < 1 or rows.max() > tracklets:
        raise InputError(f"{path}: query must number some of the {tracklets} tracklets of the test list from 1 on; "
                         "restore the released file")
    return set((rows - 1).tolist())


def _of_hdf5(path: Path) -> np.ndarray:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: is a MATLAB file of level 7.3, which needs h5py: pip install -r "
                         "data_prep/requirements-lsvid.txt") from None
    try:
        with h5py.File(path) as file:
            values = np.asarray(file["query"][()])
        whole = values.astype(np.int64)
        if (whole != values).any():
            raise ValueError("values that are not whole numbers")
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: no readable queries ({error}); restore the released file") from error
    return whole


def _names(folder: Path) -> list[str]:
    """The images in a folder, in order."""
    if not folder.is_dir():
        raise InputError(f"{folder}: missing, but a list names tracklets there; unpack the data set again")
    return sorted(path.name for path in folder.iterdir()
                  if path.suffix.lower() in (".jpg", ".png") and not path.name.startswith("."))


def _tracklet(root: Path, listed: Callable[[Path], list[str]], split: str, row: int, start: str, pid: int) -> Tracklet:
    place = PurePosixPath(start)
    names = listed(root / place.parent)
    stem = place.name.rstrip("_")
    own = names[bisect_left(names, f"{stem}_"):bisect_left(names, f"{stem}`")]  # ` follows _ in ASCII
    if not own:
        raise InputError(f"{root / start}_*: no image, but a list names this tracklet; unpack the data set again")
    cameras = {name.split("_")[2] if name.count("_") > 1 else "" for name in own}
    camera = min(cameras)
    if len(cameras) > 1 or not camera.isdecimal() or not 1 <= int(camera) <= CAMERAS:
        raise InputError(f"{root / place.parent / own[0]}: frames of camera {', '.join(sorted(cameras))}; a tracklet "
                         f"has one camera, 1 to {CAMERAS}, in the third part of its frames' names")
    sources = tuple(str(place.parent / name) for name in own)
    return Tracklet(name=f"{split}-{row:05d}", split=split, track_id=row, pid=pid + 1 if pid >= 0 else -1,
                    camid=int(camera), sources=sources, read=FrameFiles(root, sources))
