"""MARS as released: `bbox_train`, `bbox_test` and five files in `info`.

    bbox_train/0001/0001C1T0001F001.jpg    bbox_{train,test}/<first four characters of the name>/<name>
    info/train_name.txt, test_name.txt     names of all frames, one a line
    info/tracks_train_info.mat             key track_train_info, rows (first frame, last frame, identity, camera)
    info/tracks_test_info.mat              key track_test_info, the same; first and last count the lines from 1
    info/query_IDX.mat                     key query_IDX, rows of the test list that are queries, from 1

Identity -1 is junk (folder `00-1`), 0 a distractor. Zheng et al., MARS: A Video Benchmark for Large-Scale Person
Re-Identification, ECCV 2016.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.matlab import read_integers
from data_prep.datasets import Dataset, FrameFiles
from data_prep.redetect_link.tracklet import Tracklet

CAMERAS = 6
_CAMERA_CODES = tuple(f"C{number}" for number in range(1, CAMERAS + 1))  # as in the names of frames
INFO_FILES = {"train": "tracks_train_info.mat", "test": "tracks_test_info.mat", "query": "query_IDX.mat"}
NAME_FILES = {"train": "train_name.txt", "test": "test_name.txt"}
IMAGE_FOLDERS = {"train": "bbox_train", "test": "bbox_test"}
KEYS = {"train": "track_train_info", "test": "track_test_info", "query": "query_IDX"}
# What the released metadata holds.
RELEASED = {
    "training tracklets": 8298, "training identities": 625, "training frames": 509_914,
    "test tracklets": 12_180, "test frames": 681_089, "junk tracklets": 870, "distractor tracklets": 3248,
    "test identities": 634, "query tracklets": 1980, "query identities": 626}


@dataclass(frozen=True)
class Metadata:
    """What the three .mat files say.

    Attributes:
        train, test: int64 `[n, 4]`, rows (first frame, one past the last frame, identity, camera), frames from 0.
        query: int64 `[q]`, rows of `test`, increasing.
    """

    train: np.ndarray
    test: np.ndarray
    query: np.ndarray

    def sizes(self) -> dict[str, int]:
        """Returns the sizes by which the literature describes the data set."""
        pids = self.test[:, 2]
        return {
            "training tracklets": len(self.train), "training identities": len(np.unique(self.train[:, 2])),
            "training frames": _frames(self.train),
            "test tracklets": len(self.test), "test frames": _frames(self.test),
            "junk tracklets": int((pids == -1).sum()), "distractor tracklets": int((pids == 0).sum()),
            "test identities": len(np.unique(pids[pids > 0])),
            "query tracklets": len(self.query), "query identities": len(np.unique(pids[self.query]))}


def open(root: Path) -> Dataset:
    """Opens the data set in `root`.

    Raises:
        InputError: a missing or broken file, lists that do not fit each other, or an absent image folder.
    """
    if not root.is_dir():
        raise InputError(f"--root={root}: no such folder; name the one that holds info, "
                         f"{' and '.join(IMAGE_FOLDERS.values())}")
    info = root / "info"
    metadata = read_metadata(info)
    is_query = np.zeros(len(metadata.test), bool)
    is_query[metadata.query] = True
    train = _tracklets(root, "train", metadata.train, ["train"] * len(metadata.train))
    test = _tracklets(root, "test", metadata.test, ["query" if query else "gallery" for query in is_query])
    queries = [tracklet for tracklet in test if tracklet.split == "query"]
    return Dataset("mars", train + queries + [tracklet for tracklet in test if tracklet.split == "gallery"])


def read_metadata(info: Path) -> Metadata:
    """Reads and checks the three .mat files in the folder `info`; neither name lists nor images are needed.

    A set that has the released MARS's number of tracklets in two of the three files is taken for MARS itself, and all
    its sizes must then be the released ones.

    Raises:
        InputError: a missing or broken file, a value outside its range, or MARS with a wrong size.
    """
    train, test = _read_tracks(info, "train"), _read_tracks(info, "test")
    metadata = Metadata(train, test, _read_queries(info / INFO_FILES["query"], len(test)))
    sizes = metadata.sizes()
    telling = ("training tracklets", "test tracklets", "query tracklets")
    if sum(sizes[name] == RELEASED[name] for name in telling) >= 2:
        wrong = [f"{sizes[name]:,} {name} instead of {count:,}" for name, count in RELEASED.items()
                 if sizes[name] != count]
        if wrong:
            raise InputError(f"{info}: this looks like MARS but has {', '.join(wrong)}; "
                             "take the .mat files of the released data set")
    return metadata


def _read_tracks(info: Path, part: str) -> np.ndarray:
    path = info / INFO_FILES[part]
    rows = _read_mat(path, KEYS[part])
    if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
        hint = ("; six columns are corrected labels, which the evaluation takes as --config.eval.corrections"
                if rows.ndim == 2 and rows.shape[1] == 6 else "")
        raise InputError(f"{path}: {KEYS[part]} has shape {rows.shape}, expected [tracklets, 4] "
                         f"(first frame, last frame, identity, camera); restore the released file{hint}")
    first, last, pids, cameras = rows.T
    lowest = {"train": 1, "test": -1}[part]
    _refuse(path, (cameras < 1) | (cameras > CAMERAS), cameras, "camera", f"cameras are 1 to {CAMERAS}")
    _refuse(path, pids < lowest, pids, "identity", f"identities of this list start at {lowest}")
    _refuse(path, last < first, last, "last frame", "it comes before the first one, which makes an empty tracklet")
    before = np.concatenate([[0], last[:-1]])
    _refuse(path, first <= before, first, "first frame", "frames count from 1 and tracklets follow each other in order")
    return np.stack([first - 1, last, pids, cameras], axis=1)


def _read_queries(path: Path, test_tracklets: int) -> np.ndarray:
    rows = _read_mat(path, KEYS["query"])
    if rows.ndim != 2 or 1 not in rows.shape or not rows.size:
        raise InputError(f"{path}: {KEYS['query']} has shape {rows.shape}, expected [1, queries]; "
                         "restore the released file")
    rows = rows.ravel()
    _refuse(path, (rows < 1) | (rows > test_tracklets), rows, "query index",
            f"{INFO_FILES['test']} has rows 1 to {test_tracklets}")
    unique, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{path}: query index {unique[counts > 1][0]} occurs twice; name each query once")
    return unique - 1


def _read_mat(path: Path, key: str) -> np.ndarray:
    """Returns the integers stored under `key` as int64."""
    if not path.is_file():
        raise InputError(f"{path}: missing; get the info folder from the MARS-evaluation repository")
    return read_integers(path, key)


def _refuse(path: Path, wrong: np.ndarray, values: np.ndarray, what: str, rule: str) -> None:
    """Raises an error about the first value that is `wrong`; rows are counted from 1, as MATLAB does."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{path}: row {row + 1} has {what} {values[row]}: {rule}; restore the released file")


def _tracklets(root: Path, part: str, rows: np.ndarray, splits: list[str]) -> list[Tracklet]:
    """Joins one name list with its tracklets (`rows` as in `Metadata`)."""
    path, folder = root / "info" / NAME_FILES[part], IMAGE_FOLDERS[part]
    names = _read_names(path, int(rows[-1, 1]), INFO_FILES[part])
    for identity in dict.fromkeys(name[:4] for name in names):
        if not (root / folder / identity).is_dir():
            raise InputError(f"{root / folder / identity}: no such folder, but {path} lists images in it; "
                             f"unpack {folder} into {root}")
    frames = [tuple(names[first:end]) for first, end, _, _ in rows]
    stems = [own[0].split("F")[0] for own in frames]
    repeated = {stem for stem, count in Counter(stems).items() if count > 1}
    tracklets = []
    for row, (own, stem, (first, _, pid, camera)) in enumerate(zip(frames, stems, rows, strict=True)):
        if pid != -1 and len({name[:6] for name in own}) > 1:  # nothing is promised about junk
            other = next(name for name in own if name[:6] != own[0][:6])
            raise InputError(f"{path}: tracklet {row + 1}, from line {first + 1}, mixes {own[0]} with {other}; the "
                             f"list and {INFO_FILES[part]} do not belong together: restore both")
        if pid != -1 and own[0][4:6] not in _CAMERA_CODES:
            raise InputError(f"{path}: line {first + 1}, {own[0]}: no camera from C1 to C{CAMERAS} behind the "
                             "identity; restore the released file")
        sources = tuple(f"{folder}/{name[:4]}/{name}" for name in own)
        tracklets.append(Tracklet(
            name=f"{stem}R{row}" if stem in repeated else stem, split=splits[row], track_id=row, pid=int(pid),
            camid=int(camera), sources=sources, read=FrameFiles(root, sources)))
    return tracklets


def _read_names(path: Path, expected: int, info_file: str) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: missing; get the info folder from the MARS-evaluation repository")
    try:
        names = path.read_text(encoding="ascii").split()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file of frame names ({error}); restore the released file") from None
    if len(names) < expected:
        raise InputError(f"{path}: lists {len(names):,} frames, but {info_file} counts {expected:,}; "
                         "restore the released file")
    strange = next((name for name in names if not name.endswith(".jpg") or "/" in name or "F" not in name), None)
    if strange is not None:
        raise InputError(f"{path}: '{strange}' is not a frame name such as 0001C1T0001F001.jpg; "
                         "restore the released file")
    return names


def _frames(rows: np.ndarray) -> int:
    return int((rows[:, 1] - rows[:, 0]).sum())
