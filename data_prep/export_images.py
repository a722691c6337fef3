"""Writes finished records in the layout of the authors' MARS-DL: images, lists and masks.

`--dataset=mars_dl` reads it back. JPEG files keep their bytes. What is there already is kept, and the folder `info`
appears last.
"""

from pathlib import Path

import numpy as np

from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import write_atomic
from cfaan_jax.runtime.progress import Progress
from data_prep.datasets import mars
from data_prep.datasets.mars_files import lists, masks, queries, write

_SPLITS = {"train": ("train",), "test": ("query", "gallery")}


def export(records: Path, out: Path) -> None:
    """Writes the images, then `info` with the masks.

    Args:
        records: folder of finished records, made from a data set in MARS's layout.
        out: folder, made if it is not there.

    Raises:
        InputError: damaged records, records of another layout, or files of something else in `out`, which stay.
    """
    counts = load_manifest(records)["counts"]
    parts = {part: _tracklets(records, [split for split in splits if split in counts])
             for part, splits in _SPLITS.items()}
    files = _info(parts)
    for name, content in files.items():
        path = out / "info" / name
        if path.exists() and path.read_bytes() != content:
            raise InputError(f"{path}: is there already with another content; give a new or an empty folder")
    with Progress(f"images to {out}", sum(map(len, parts.values()))) as progress:
        for places in parts.values():
            for own, position in places:
                record = own.record(position)
                for source, data in zip(record.sources, record.frames, strict=True):
                    _write_image(out / source, data)
                progress.advance()
    write(out / "info", files)


def _info(parts: dict[str, list[tuple[RecordSet, int]]]) -> dict[str, bytes]:
    """The files of `info`."""
    files = {}
    for part, places in parts.items():
        names = [[_name(part, source) for source in own.record(position).sources] for own, position in places]
        rectangles = np.concatenate([own.rectangles(position) for own, position in places])
        files |= lists(part, names, [own.pids[i] for own, i in places], [own.camids[i] for own, i in places])
        files |= masks(part, [name for own in names for name in own], rectangles)
    return files | queries([row for row, (own, _) in enumerate(parts["test"]) if own.split == "query"])


def _tracklets(records: Path, splits: list[str]) -> list[tuple[RecordSet, int]]:
    """The tracklets of one of MARS's two lists, in its order: record set and position."""
    places = {}
    for split in splits:
        own = RecordSet.open(records, split)
        places |= {int(row): (own, position) for position, row in enumerate(own.track_ids)}
    missing = next((row for row in range(len(places)) if row not in places), None)
    if missing is not None or not places:
        raise InputError(f"{records}: tracklet {missing or 0} of {' and '.join(splits) or 'a split'} is missing, which "
                         "MARS's lists cannot leave out; build the records of the whole data set again")
    return [places[row] for row in range(len(places))]


def _name(part: str, source: str) -> str:
    """The name of a frame without its folders."""
    name = source.rpartition("/")[2]
    if source != f"{mars.IMAGE_FOLDERS[part]}/{name[:4]}/{name}" or not name.endswith(".jpg"):
        raise InputError(f"frame {source}: not named as in MARS (bbox_{part}/0001/0001C1T0001F001.jpg), so it has no "
                         "place in that layout; export records of --dataset=mars, mars_dl or synthetic")
    return name


def _write_image(path: Path, data: bytes) -> None:
    if path.exists():
        if path.read_bytes() != data:
            raise InputError(f"{path}: is there already with another content; give a new or an empty folder")
        return
    write_atomic(path, data, durable=False)
