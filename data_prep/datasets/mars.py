"""MARS as released: `bbox_train`, `bbox_test` and five files in `info`.

    bbox_train/0001/0001C1T0001F001.jpg    bbox_{train,test}/<first four characters of the name>/<name>
    info/train_name.txt, test_name.txt     names of all frames, one per line
    info/tracks_train_info.mat             key track_train_info, rows (first frame, last frame, identity, camera)
    info/tracks_test_info.mat              key track_test_info, the same; first and last are line numbers from 1
    info/query_IDX.mat                     key query_IDX, rows of the test list that are queries, from 1

`open` reads this layout; `list_files` and `query_file` make the files in `info`. Identity -1 is junk (folder `00-1`),
identity 0 is a distractor. Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-Identification, ECCV 2016.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError, shortened
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.matlab import read_integers
from data_prep.datasets import Dataset, FrameFiles
from data_prep.redetect_link.tracklet import Tracklet

CAMERAS = 6
_CAMERA_CODES = tuple(f"C{number}" for number in range(1, CAMERAS + 1))  # as in the names of frames
INFO_FILES = {"train": "tracks_train_info.mat", "test": "tracks_test_info.mat", "query": "query_IDX.mat"}
NAME_FILES = {"train": "train_name.txt", "test": "test_name.txt"}
IMAGE_FOLDERS = {"train": "bbox_train", "test": "bbox_test"}
KEYS = {"train": "track_train_info", "test": "track_test_info", "query": "query_IDX"}
# The sizes of the released data set.
RELEASED = {
    "training tracklets": 8298, "training identities": 625, "training frames": 509_914,
    "test tracklets": 12_180, "test frames": 681_089, "junk tracklets": 870, "distractor tracklets": 3248,
    "test identities": 634, "query tracklets": 1980, "query identities": 626}


@dataclass(frozen=True)
class Metadata:
    """The content of the three .mat files.

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
            "training frames": int((self.train[:, 1] - self.train[:, 0]).sum()),
            "test tracklets": len(self.test), "test frames": int((self.test[:, 1] - self.test[:, 0]).sum()),
            "junk tracklets": int((pids == -1).sum()), "distractor tracklets": int((pids == 0).sum()),
            "test identities": len(np.unique(pids[pids > 0])),
            "query tracklets": len(self.query), "query identities": len(np.unique(pids[self.query]))}


def open(root: Path) -> Dataset:
    """Opens the data set in `root`.

    Raises:
        InputError: a missing or broken file, lists that do not fit each other, or a missing image folder.
    """
    if not root.is_dir():
        raise InputError(f"--root={root}: no such folder; name the one that holds info, "
                         f"{' and '.join(IMAGE_FOLDERS.values())}")
    metadata = read_metadata(root / "info")
    queries = set(metadata.query.tolist())
    train = _tracklets(root, "train", metadata.train, ["train"] * len(metadata.train))
    test = _tracklets(root, "test", metadata.test,
                      ["query" if row in queries else "gallery" for row in range(len(metadata.test))])
    return Dataset("mars", train + sorted(test, key=lambda tracklet: tracklet.split == "gallery"))


def read_metadata(info: Path) -> Metadata:
    """Reads and checks the three .mat files in the folder `info`, without name lists and images.

    A data set with MARS's number of tracklets in two of the three files counts as MARS, and must have all its sizes.

    Raises:
        InputError: a missing or broken file, a value outside its range, or MARS with a wrong size.
    """
    train, test = _read_tracks(info, "train"), _read_tracks(info, "test")
    metadata = Metadata(train, test, _read_queries(info / INFO_FILES["query"], len(test)))
    sizes = metadata.sizes()
    counts = ("training tracklets", "test tracklets", "query tracklets")
    wrong = [f"{sizes[name]:,} {name} instead of {count:,}" for name, count in RELEASED.items() if sizes[name] != count]
    if wrong and sum(sizes[name] == RELEASED[name] for name in counts) >= 2:
        raise InputError(f"{info}: looks like MARS but has {shortened(wrong)}; use the .mat files of the released "
                         "data set")
    return metadata


def _read_tracks(info: Path, part: str) -> np.ndarray:
    path = info / INFO_FILES[part]
    rows = read_integers(_existing(path), KEYS[part])
    if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
        hint = ("; six columns are corrected labels, which the evaluation takes as --config.eval.corrections"
                if rows.ndim == 2 and rows.shape[1] == 6 else "")
        raise InputError(f"{path}: {KEYS[part]} has shape {rows.shape}, expected [tracklets, 4] "
                         f"(first frame, last frame, identity, camera); restore the released file{hint}")
    first, last, pids, cameras = rows.T
    lowest = {"train": 1, "test": -1}[part]
    _check_rows(path, (cameras < 1) | (cameras > CAMERAS), cameras, "camera", f"cameras are 1 to {CAMERAS}")
    _check_rows(path, pids < lowest, pids, "identity", f"identities of this list start at {lowest}")
    _check_rows(path, last < first, last, "last frame", "it comes before the first one, so the tracklet is empty")
    previous = np.concatenate([[0], last[:-1]])
    _check_rows(path, first <= previous, first, "first frame",
                "frames count from 1 and tracklets follow each other in order")
    return np.stack([first - 1, last, pids, cameras], axis=1)


def _read_queries(path: Path, test_tracklets: int) -> np.ndarray:
    rows = read_integers(_existing(path), KEYS["query"])
    if rows.ndim != 2 or 1 not in rows.shape or not rows.size:
        raise InputError(f"{path}: {KEYS['query']} has shape {rows.shape}, expected [1, queries]; "
                         "restore the released file")
    rows = rows.ravel()
    _check_rows(path, (rows < 1) | (rows > test_tracklets), rows, "query index",
            f"{INFO_FILES['test']} has rows 1 to {test_tracklets}")
    unique, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{path}: query index {unique[counts > 1][0]} occurs twice; list every query once")
    return unique - 1


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: missing; get the info folder from the MARS-evaluation repository")
    return path


def _check_rows(path: Path, wrong: np.ndarray, values: np.ndarray, name: str, rule: str) -> None:
    """Raises InputError for the first value that is `wrong`; its row counts from 1, as in MATLAB."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{path}: row {row + 1} has {name} {values[row]}: {rule}; restore the released file")


def _tracklets(root: Path, part: str, rows: np.ndarray, splits: list[str]) -> list[Tracklet]:
    """Returns the tracklets of one name list (`rows` as in `Metadata`)."""
    path, folder = root / "info" / NAME_FILES[part], IMAGE_FOLDERS[part]
    names = _read_names(path, int(rows[-1, 1]), INFO_FILES[part])
    for identity in dict.fromkeys(name[:4] for name in names):
        if not (root / folder / identity).is_dir():
            raise InputError(f"{root / folder / identity}: no such folder, but {path} lists images in it; "
                             f"unpack {folder} into {root}")
    frames = [tuple(names[first:end]) for first, end, _, _ in rows]
    stems = [own_names[0].split("F")[0] for own_names in frames]
    repeated = {stem for stem, count in Counter(stems).items() if count > 1}
    tracklets = []
    for row, (own_names, stem, (first, _, pid, camera)) in enumerate(zip(frames, stems, rows, strict=True)):
        start = own_names[0]
        other = next((name for name in own_names if name[:6] != start[:6]), None)
        if pid != -1 and other is not None:  # names of junk follow no rule
            raise InputError(f"{path}: tracklet {row + 1}, from line {first + 1}, mixes {start} with {other}; the list "
                             f"and {INFO_FILES[part]} do not belong together: restore both")
        if pid != -1 and start[4:6] not in _CAMERA_CODES:
            raise InputError(f"{path}: line {first + 1}, {start}: no camera from C1 to C{CAMERAS} after the identity; "
                             "restore the released file")
        sources = tuple(f"{folder}/{name[:4]}/{name}" for name in own_names)
        tracklets.append(Tracklet(
            name=f"{stem}R{row}" if stem in repeated else stem, split=splits[row], track_id=row, pid=int(pid),
            camid=int(camera), sources=sources, read=FrameFiles(root, sources)))
    return tracklets


def _read_names(path: Path, expected: int, info_file: str) -> list[str]:
    try:
        names = _existing(path).read_text(encoding="ascii").split()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file of frame names ({error}); restore the released file") from None
    if len(names) < expected:
        raise InputError(f"{path}: lists {len(names):,} frames, but {info_file} counts {expected:,}; "
                         "restore the released file")
    invalid = next((name for name in names if not name.endswith(".jpg") or "/" in name or "F" not in name), None)
    if invalid is not None:
        raise InputError(f"{path}: '{invalid}' is not a frame name such as 0001C1T0001F001.jpg; "
                         "restore the released file")
    return names


def list_files(part: str, names: Sequence[Sequence[str]], pids: Sequence[int],
               camids: Sequence[int]) -> dict[str, bytes]:
    """Returns the content of the name list and of the tracklets of one part, by file name.

    Args:
        part: `train` or `test`.
        names: per tracklet the names of its frames, without folders.
        pids, camids: one per tracklet.
    """
    lengths = np.array([len(own_names) for own_names in names])
    last = np.cumsum(lengths)
    rows = np.stack([last - lengths + 1, last, pids, camids], axis=1).astype(np.int32)
    return {NAME_FILES[part]: "".join(f"{name}\n" for own_names in names for name in own_names).encode(),
            INFO_FILES[part]: _mat(KEYS[part], rows)}


def query_file(rows: Sequence[int]) -> dict[str, bytes]:
    """Returns the content of the file of the queries by its name; `rows` are rows of the test list, from 0."""
    return {INFO_FILES["query"]: _mat(KEYS["query"], (np.asarray(rows) + 1)[None].astype(np.uint16))}


def write_info(info: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into the folder `info`, which is created if it is missing."""
    for name, content in files.items():
        write_atomic(info / name, content)


def _mat(key: str, values: np.ndarray) -> bytes:
    from scipy.io import savemat  # slow to import, and only writing needs it

    content = io.BytesIO()
    savemat(content, {key: values})
    # SciPy writes the date into the text of the first 116 bytes; equal data sets must have equal bytes.
    return b"MATLAB 5.0 MAT-file, written by cfaan-jax".ljust(116) + content.getvalue()[116:]
