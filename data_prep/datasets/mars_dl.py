"""MARS after Re-Detect and Link, as its authors released it (MARS-DL): MARS's layout with masks.

    info/mask_info.csv, mask_info_test.csv    rows (name, y0, y1, x0, x1) without a header; row i belongs to frame i of
                                              the name list: where its real pixels are, end exclusive

`open` reads this layout, and `export` writes records in it.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.progress import Progress
from data_prep.datasets import Dataset, mars

MASK_FILES = {"train": "mask_info.csv", "test": "mask_info_test.csv"}
_LARGEST = 1 << 20  # pixels
_SPLITS = {"train": ("train",), "test": ("query", "gallery")}  # by part of MARS


def open(root: Path) -> Dataset:
    """Opens the data set in `root`.

    Raises:
        InputError: what `mars.open` raises, or masks that are missing, broken or those of other frames.
    """
    masks = {part: root / "info" / name for part, name in MASK_FILES.items()}
    tracklets = mars.open(root).tracklets
    rectangles = {part: _read_masks(path) for part, path in masks.items()}
    masked = []
    for tracklet in tracklets:
        part = "train" if tracklet.split == "train" else "test"
        rows = [rectangles[part].get(source.rpartition("/")[2]) for source in tracklet.sources]
        if None in rows:
            raise InputError(f"{masks[part]}: no row for {tracklet.sources[rows.index(None)]}; restore the released "
                             "file")
        masked.append(replace(tracklet, rectangles=np.array(rows, np.int32)))
    return Dataset("mars_dl", masked, aligned=True)


def _read_masks(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns rectangles (y0, y1, x0, x1) of at least one pixel by the name of the frame."""
    if not path.is_file():
        raise InputError(f"{path}: missing; it holds the masks of MARS-DL, and MARS itself is --dataset=mars")
    with path.open(newline="", encoding="ascii") as file:
        reader = csv.reader(file)
        try:
            rows = [(reader.line_num, name, _rectangle(values)) for name, *values in reader]
        except (ValueError, csv.Error) as error:
            raise InputError(f"{path}: line {max(reader.line_num, 1)} is not a row (name, y0, y1, x0, x1) ({error}); "
                             "restore the released file") from None
    for line, name, (y0, y1, x0, x1) in rows:
        if not (0 <= y0 < y1 and 0 <= x0 < x1):
            raise InputError(f"{path}: line {line}, {name},{y0},{y1},{x0},{x1}: a mask must hold at least one pixel; "
                             "restore the released file")
    return {name: rectangle for _, name, rectangle in rows}


def _rectangle(values: list[str]) -> tuple[int, int, int, int]:
    numbers = [float(text) for text in values]  # "12.0" is 12
    for text, number in zip(values, numbers, strict=True):
        if not number.is_integer() or abs(number) > _LARGEST:
            raise ValueError(f"{text} is not a whole number of pixels up to {_LARGEST}")
    y0, y1, x0, x1 = map(int, numbers)
    return y0, y1, x0, x1


def export(records: Path, out: Path) -> None:
    """Writes images, lists and masks of finished records. JPEG files keep their bytes.

    Files that exist with the same content stay, and the folder `info` appears last.

    Args:
        records: folder of records, made from a data set in MARS's layout.
        out: folder, created if it is missing.

    Raises:
        InputError: damaged records, records of another layout, or files with another content in `out`, which stay.
    """
    counts = load_manifest(records)["counts"]
    parts = {part: _rows(records, [split for split in splits if split in counts]) for part, splits in _SPLITS.items()}
    files = _info(parts)
    for name, content in files.items():
        _is_written(out / "info" / name, content)
    with Progress(f"images to {out}", sum(map(len, parts.values()))) as progress:
        for rows in parts.values():
            for record_set, position in rows:
                record = record_set.record(position)
                for source, data in zip(record.sources, record.frames, strict=True):
                    if not _is_written(out / source, data):
                        write_atomic(out / source, data, durable=False)
                progress.advance()
    mars.write_info(out / "info", files)


def _rows(records: Path, splits: list[str]) -> list[tuple[RecordSet, int]]:
    """Returns the tracklets of one of MARS's two lists in its order: record set and position in it."""
    by_row = {}
    for split in splits:
        record_set = RecordSet.open(records, split)
        by_row |= {int(row): (record_set, position) for position, row in enumerate(record_set.track_ids)}
    missing = next((row for row in range(len(by_row)) if row not in by_row), None)
    if missing is not None or not by_row:
        raise InputError(f"{records}: tracklet {missing or 0} of {' and '.join(splits) or 'a split'} is missing, but "
                         "MARS's lists number all tracklets; build the records of the whole data set again")
    return [by_row[row] for row in range(len(by_row))]


def _info(parts: dict[str, list[tuple[RecordSet, int]]]) -> dict[str, bytes]:
    """Returns the files of `info`."""
    files = {}
    for part, rows in parts.items():
        names = [[_frame_name(part, source) for source in record_set.record(i).sources] for record_set, i in rows]
        files |= mars.list_files(part, names, [record_set.pids[i] for record_set, i in rows],
                                 [record_set.camids[i] for record_set, i in rows])
        files |= mask_file(part, [name for own_names in names for name in own_names],
                           np.concatenate([record_set.rectangles(i) for record_set, i in rows]))
    queries = [row for row, (record_set, _) in enumerate(parts["test"]) if record_set.split == "query"]
    return files | mars.query_file(queries)


def mask_file(part: str, names: Sequence[str], rectangles: np.ndarray) -> dict[str, bytes]:
    """Returns the content of the masks of one part by the name of the file."""
    lines = (f"{name},{','.join(map(str, row))}\n" for name, row in zip(names, rectangles.tolist(), strict=True))
    return {MASK_FILES[part]: "".join(lines).encode()}


def _frame_name(part: str, source: str) -> str:
    """Returns the name of a frame without its folders."""
    name = source.rpartition("/")[2]
    if source != f"{mars.IMAGE_FOLDERS[part]}/{name[:4]}/{name}" or not name.endswith(".jpg"):
        raise InputError(f"frame {source}: not named as in MARS (bbox_{part}/0001/0001C1T0001F001.jpg), so that layout "
                         "cannot hold it; export records of --dataset=mars, mars_dl or synthetic")
    return name


def _is_written(path: Path, content: bytes) -> bool:
    """Whether a file exists with this content; InputError for another content."""
    if path.exists() and path.read_bytes() != content:
        raise InputError(f"{path}: exists with another content; choose a new or an empty folder")
    return path.exists()
