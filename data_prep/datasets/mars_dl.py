"""MARS after Re-Detect and Link, as its authors released it (MARS-DL): MARS's layout, and masks beside it.

    info/mask_info.csv, mask_info_test.csv    rows (name, y0, y1, x0, x1) without a header, row i belongs to frame i of
                                              the name list: where the frame holds real pixels, end exclusive

`data_prep/export_images.py` writes the same.
"""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError
from data_prep.datasets import Dataset, mars
from data_prep.datasets.mars_files import MASK_FILES

_LARGEST = 1 << 20  # pixels


def open(root: Path) -> Dataset:
    """Opens the data set in `root`.

    Raises:
        InputError: what `mars.open` raises, or masks that are missing, broken or those of other frames.
    """
    tracklets = mars.open(root).tracklets
    masks = {part: _read_masks(root / "info" / name) for part, name in MASK_FILES.items()}
    masked = []
    for tracklet in tracklets:
        part = "train" if tracklet.split == "train" else "test"
        rectangles = [masks[part].get(source.rpartition("/")[2]) for source in tracklet.sources]
        if None in rectangles:
            raise InputError(f"{root / 'info' / MASK_FILES[part]}: no row for "
                             f"{tracklet.sources[rectangles.index(None)]}; restore the released file")
        masked.append(replace(tracklet, rectangles=np.array(rectangles, np.int32)))
    return Dataset("mars_dl", masked, aligned=True)


def _read_masks(path: Path) -> dict[str, tuple[int, ...]]:
    """Rectangles (y0, y1, x0, x1) by name of the frame, each with at least one pixel."""
    if not path.is_file():
        raise InputError(f"{path}: missing; the masks of MARS-DL belong there, and MARS itself is --dataset=mars")
    with path.open(newline="", encoding="ascii") as file:
        reader = csv.reader(file)
        try:
            rows = [(reader.line_num, name, _rectangle(values)) for name, *values in reader]
        except (ValueError, csv.Error) as error:
            raise InputError(f"{path}: line {max(reader.line_num, 1)} is no row (name, y0, y1, x0, x1) ({error}); "
                             "restore the released file") from None
    for line, name, (y0, y1, x0, x1) in rows:
        if not (0 <= y0 < y1 and 0 <= x0 < x1):
            raise InputError(f"{path}: line {line}, {name},{y0},{y1},{x0},{x1}: a mask must hold at least one pixel; "
                             "restore the released file")
    return {name: rectangle for _, name, rectangle in rows}


def _rectangle(values: list[str]) -> tuple[int, int, int, int]:
    y0, y1, x0, x1 = map(_whole, values)
    return y0, y1, x0, x1


def _whole(text: str) -> int:
    number = float(text)  # "12.0" is 12
    if not number.is_integer() or abs(number) > _LARGEST:
        raise ValueError(f"{text} is no whole number of pixels up to {_LARGEST}")
    return int(number)
