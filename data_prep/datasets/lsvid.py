"""LS-VID as released: 15 cameras, 3,772 people in long sequences, with lists of tracklets.

    tracklet_train, tracklet_test      the frames, in folders of their own
    list_sequence/list_seq_train.txt   rows (start of the names of a tracklet's frames, identity), from --root
    list_sequence/list_seq_test.txt    the same
    test/data/info_test.mat            key query, rows of the test list that are queries, from 1

The lists may also lie in `info` (info/list_sequence, info/data), as some public code expects. The third part of a
frame's name, between underscores, is its camera. Identity -1 is junk. Other identities may start at 0, which means
distractors here, so they are stored one higher. The lists for validation are not read. The gallery is the rest of the
test list, which is the protocol `mars`; `mars_with_queries` adds the queries. Li et al., Global-Local Temporal
Representations for Video Person Re-Identification, ICCV 2019.

Layout and rules are those that public loaders of this data set read; this reader has not been run on a real copy.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from cfaan_jax.errors import InputError, reason, shortened
from cfaan_jax.runtime.matlab import read_integers
from data_prep.datasets import Dataset, FrameFiles
from data_prep.redetect_link.tracklet import Tracklet

CAMERAS = 15
_ROW = re.compile(r"(\S+)\s+(-?\d+)")
_PLACES = (("list_sequence", "test/data"), ("info/list_sequence", "info/data"))
_HDF5_START = b"MATLAB 7.3"  # MATLAB files of level 7.3 are HDF5


def open(root: Path) -> Dataset:
    """Opens the data set in `root`.

    Raises:
        InputError: a missing or broken list, a tracklet without frames or of several cameras; or h5py is not
            installed, which MATLAB files of level 7.3 need.
    """
    lists, data = next(((root / lists, root / data) for lists, data in _PLACES if (root / lists).is_dir()),
                       (root / _PLACES[0][0], None))
    if data is None:
        raise InputError(f"{lists}: missing; --root must be the folder LS-VID that holds list_sequence, tracklet_train "
                         "and tracklet_test")
    train, test = (_read_list(lists / f"list_seq_{part}.txt") for part in ("train", "test"))
    queries = _read_queries(data / "info_test.mat", len(test))
    image_names = cache(_image_names)
    tracklets = [_tracklet(root, image_names, "train", row, *entry) for row, entry in enumerate(train)]
    test_tracklets = [_tracklet(root, image_names, "query" if row in queries else "gallery", row, *entry)
                      for row, entry in enumerate(test)]
    return Dataset("lsvid", tracklets + sorted(test_tracklets, key=lambda tracklet: tracklet.split == "gallery"))


def _read_list(path: Path) -> list[tuple[str, int]]:
    """Returns per tracklet the start of its frames' names, and its identity."""
    if not path.is_file():
        raise InputError(f"{path}: missing; unpack the data set again")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        match = _ROW.fullmatch(line.strip())
        if line.strip() and (match is None or {"..", "/"} & set(PurePosixPath(match[1]).parts)):
            raise InputError(f"{path}: line {number} is not a row (start of the frames' names, identity): "
                             f"{line[:80]!r}; restore the released file")
        if match:
            rows.append((match[1], int(match[2])))
    if not rows:
        raise InputError(f"{path}: empty; restore the released file")
    return rows


def _read_queries(path: Path, tracklets: int) -> set[int]:
    """The rows of the test list that are queries, from 0."""
    if not path.is_file():
        raise InputError(f"{path}: missing; unpack the data set again")
    with path.open("rb") as file:
        is_hdf5 = file.read(len(_HDF5_START)) == _HDF5_START
    rows = (_read_hdf5(path) if is_hdf5 else read_integers(path, "query")).ravel()
    if not len(rows) or rows.min() < 1 or rows.max() > tracklets:
        raise InputError(f"{path}: query must hold rows of the test list, 1 to {tracklets}; restore the released file")
    return set((rows - 1).tolist())


def _read_hdf5(path: Path) -> np.ndarray:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: a MATLAB file of level 7.3 needs h5py: pip install -r "
                         "data_prep/requirements-lsvid.txt") from None
    try:
        with h5py.File(path) as file:
            values = np.asarray(file["query"][()])
        whole = values.astype(np.int64)
        if (whole != values).any():
            raise ValueError("values that are not whole numbers")
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: its queries cannot be read ({reason(error)}); restore the released file") from error
    return whole


def _image_names(folder: Path) -> list[str]:
    """Returns the names of the images in a folder, in order."""
    if not folder.is_dir():
        raise InputError(f"{folder}: missing, but a list names tracklets in it; unpack the data set again")
    return sorted(path.name for path in folder.iterdir()
                  if path.suffix.lower() in (".jpg", ".png") and not path.name.startswith("."))


def _tracklet(root: Path, image_names: Callable[[Path], list[str]], split: str, row: int, start: str,
              pid: int) -> Tracklet:
    folder, stem = PurePosixPath(start).parent, PurePosixPath(start).name.rstrip("_")
    names = image_names(root / folder)
    names = names[bisect_left(names, f"{stem}_"):bisect_left(names, f"{stem}`")]  # ` follows _ in ASCII
    if not names:
        raise InputError(f"{root / start}_*: no image, but a list names this tracklet; unpack the data set again")
    cameras = {name.split("_")[2] if name.count("_") > 1 else "" for name in names}
    camera = min(cameras)
    if len(cameras) > 1 or not camera.isdecimal() or not 1 <= int(camera) <= CAMERAS:
        raise InputError(f"{root / folder / names[0]}: frames of camera {shortened(sorted(cameras))}; a tracklet has "
                         f"one camera, 1 to {CAMERAS}, in the third part of its frames' names")
    sources = tuple(str(folder / name) for name in names)
    return Tracklet(name=f"{split}-{row:05d}", split=split, track_id=row, pid=pid + 1 if pid >= 0 else -1,
                    camid=int(camera), sources=sources, read=FrameFiles(root, sources))
