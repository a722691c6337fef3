"""The files in MARS's `info` folder, made; `mars` reads them, and says what each holds."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

from cfaan_jax.runtime.files import write_atomic
from data_prep.datasets import mars

MASK_FILES = {"train": "mask_info.csv", "test": "mask_info_test.csv"}


def lists(part: str, names: Sequence[Sequence[str]], pids: Sequence[int], camids: Sequence[int]) -> dict[str, bytes]:
    """The name list and the tracklets of one part, by file name.

    Args:
        part: `train` or `test`.
        names: of the frames of each tracklet, without folders.
        pids, camids: of each tracklet.
    """
    last = np.cumsum([len(own) for own in names])
    first = last - [len(own) - 1 for own in names]
    rows = np.stack([first, last, pids, camids], axis=1).astype(np.int32)
    return {mars.NAME_FILES[part]: "".join(f"{name}\n" for own in names for name in own).encode(),
            mars.INFO_FILES[part]: _mat(mars.KEYS[part], rows)}


def queries(rows: Sequence[int]) -> dict[str, bytes]:
    """The file that says which test tracklets are queries, counted from 0."""
    return {mars.INFO_FILES["query"]: _mat(mars.KEYS["query"], (np.asarray(rows) + 1)[None].astype(np.uint16))}


def masks(part: str, names: Sequence[str], rectangles: np.ndarray) -> dict[str, bytes]:
    """The file of one part that says where frames hold real pixels: rows (name, y0, y1, x0, x1), no header."""
    lines = (f"{name},{','.join(map(str, row))}\n" for name, row in zip(names, rectangles.tolist(), strict=True))
    return {MASK_FILES[part]: "".join(lines).encode()}


def write(info: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder, made if it is not there."""
    for name, content in files.items():
        write_atomic(info / name, content)


def _mat(key: str, values: np.ndarray) -> bytes:
    content = io.BytesIO()
    savemat(content, {key: values})
    # The first 116 bytes are text, into which SciPy writes the date: the same set must give the same bytes.
    return b"MATLAB 5.0 MAT-file, written by cfaan-jax".ljust(116) + content.getvalue()[116:]
