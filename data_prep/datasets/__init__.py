"""Data sets as tracklets: every reader yields the same plain record, whatever the layout on disk.

`DATASETS[name](root, **options)` opens one. A reader checks at once what is cheap to check (files, lists, ranges,
cameras); the images themselves are read by whoever asks a tracklet for its frames.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import read_regular_file
from data_prep.redetect_link.tracklet import Tracklet


@dataclass(frozen=True)
class Dataset:
    """Tracklets in the order train, query, gallery, each by `track_id`.

    Attributes:
        note: a caveat that every printed figure must carry, or "".
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


def _imported_when_called(name: str) -> Callable[..., Dataset]:
    def open_dataset(root: Path, **options) -> Dataset:
        return importlib.import_module(f"{__name__}.{name}").open(Path(root), **options)

    return open_dataset


# A reader's own needs (SciPy, the tracker of `video`) are imported only when that data set is opened.
DATASETS: dict[str, Callable[..., Dataset]] = {
    name: _imported_when_called(name)
    for name in ("mars", "mars_dl", "dukev", "ilids", "prid", "lsvid", "synthetic", "video")}
