"""Data sets as tracklets: all readers yield the same plain record, whatever the layout on disk.

`DATASETS[name](root, **options)` opens one. A reader checks at once what is cheap to check (files, lists, ranges,
cameras); the images themselves are read when the frames of a tracklet are needed.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import read_regular_file
from data_prep.redetect_link.tracklet import Tracklet


@dataclass(frozen=True)
class Dataset:
    """Tracklets in the order train, query, gallery, and by `track_id` within a split.

    Attributes:
        note: a caveat that must accompany every printed result, or "".
        aligned: whether the frames went through Re-Detect and Link before.
    """

    name: str
    tracklets: list[Tracklet]
    note: str = ""
    aligned: bool = False


@dataclass(frozen=True)
class FrameFiles:
    """Reads the frames of a tracklet from image files `names` under `root`; it can be sent to another process."""

    root: Path
    names: tuple[str, ...]

    def __call__(self, index: int) -> bytes:
        path = self.root / self.names[index]
        try:
            return read_regular_file(path)
        except OSError as error:
            raise InputError(f"{path}: frame {index} of its tracklet cannot be read ({error.strerror}); "
                             "unpack the data set again") from error


# The function that reads a data set, by its name. Its module is imported only when that data set is opened, so that
# what one reader needs (SciPy, the tracker of `video`) is not needed by the others.
READERS = {name: f"data_prep.datasets.{name}:open" for name in ("mars", "mars_dl", "dukev", "lsvid", "video")} | {
    "ilids": "data_prep.datasets.two_cameras:open_ilids", "prid": "data_prep.datasets.two_cameras:open_prid",
    "synthetic": "data_prep.synthetic.dataset:open"}


def _opener(reader: str) -> Callable[..., Dataset]:
    return lambda root, **options: pkgutil.resolve_name(reader)(Path(root), **options)


DATASETS: dict[str, Callable[..., Dataset]] = {name: _opener(reader) for name, reader in READERS.items()}
