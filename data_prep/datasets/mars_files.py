"""Writes the files in MARS's `info` folder; `mars` reads them, and says what each holds."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

from cfaan_jax.files import written_whole
from data_prep.datasets import mars

MASK_FILES = {"train": "mask_info.csv", "test": "mask_info_test.csv"}


def write_lists(info: Path, part: str, names: Sequence[Sequence[str]], pids: Sequence[int],
                camids: Sequence[int]) -> None:
    """Writes the name list and the tracklets of one part.

    Args:
        info: folder, made if it is not there.
        part: `train` or `test`.
        names: of the frames of each tracklet, without folders.
        pids, camids: of each tracklet.
    """
    last = np.cumsum([len(own) for own in names])
    first = last - [len(own) - 1 for own in names]
    rows = np.stack([first, last, pids, camids], axis=1).astype(np.int32)
    _write(info / mars.NAME_FILES[part], "".join(f"{name}\n" for own in names for name in own).encode())
    _write_mat(info / mars.INFO_FILES[part], mars.KEYS[part], rows)


def write_queries(info: Path, rows: Sequence[int]) -> None:
    """Writes which test tracklets are queries, counted from 0."""
    _write_mat(info / mars.INFO_FILES["query"], mars.KEYS["query"], (np.asarray(rows) + 1)[None].astype(np.uint16))


def write_masks(info: Path, part: str, names: Sequence[str], rectangles: np.ndarray) -> None:
    """Writes where frames hold real pixels, as the authors' MARS-DL does: rows (name, y0, y1, x0, x1), no header."""
    lines = (f"{name},{','.join(map(str, row))}\n" for name, row in zip(names, rectangles.tolist(), strict=True))
    _write(info / MASK_FILES[part], "".join(lines).encode())


def _write_mat(path: Path, key: str, values: np.ndarray) -> None:
    content = io.BytesIO()
    savemat(content, {key: values})
    # The first 116 bytes are text, into which SciPy writes the date: the same set must give the same bytes.
    _write(path, b"MATLAB 5.0 MAT-file, written by cfaan-jax".ljust(116) + content.getvalue()[116:])


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(content)
