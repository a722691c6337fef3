"""Frames of the tracklets of a search, as they are stored."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cfaan_jax.data.reading import read_clip
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.errors import InputError
from cfaan_jax.metrics.search import Search
from cfaan_jax.report.page import PageFolder

IN_STRIP = 3  # frames of a tracklet in a strip
_HEIGHT, _WIDTH = 192, 96  # of one of them
_REMEDY = "config.eval.raw_records must name the same data set packed with --detector=none, or nothing"


class TrackletFrames:
    """Reads frames by the tracklet's row in a search; its records are in `directory`.

    Attributes:
        parts: the record sets of queries and gallery.
    """

    def __init__(self, found: Search, directory: str | Path):
        self._queries = found.num_queries
        searched = found.names[:found.num_queries], found.names[found.num_queries:]
        self.parts = [records.only(np.isin(records.names, names)) for records, names in  # damaged ones may be left out
                      zip((RecordSet.open(directory, split) for split in ("query", "gallery")), searched, strict=True)]

    def place(self, row: int) -> tuple[RecordSet, int]:
        """The split in which a tracklet lies, and where."""
        query, gallery = self.parts
        return (query, row) if row < self._queries else (gallery, row - self._queries)

    def spread(self, row: int, count: int) -> list[np.ndarray]:
        """Frames uint8 `[h, w, 3]` RGB from the middles of `count` equal parts; a short tracklet repeats none."""
        records, position = self.place(row)
        return read_stored(records, position, spread(range(records.lengths[position]), count))


def spread(items: Sequence, count: int) -> list:
    """At most `count` of the items: the middles of that many equal parts."""
    count = min(count, len(items))
    return [items[len(items) * (2 * i + 1) // (2 * count)] for i in range(count)]


def read_stored(records: RecordSet, position: int, indices: Sequence[int]) -> list[np.ndarray]:
    """Frames of one tracklet, uint8 `[h, w, 3]` RGB each, in the sizes in which they are stored."""
    sizes = records.image_sizes(position)
    return [read_clip(records, position, np.array([k]), tuple(sizes[k]))[0][0] for k in indices]


def fitted(frame: np.ndarray, height: int, width: int, background: str) -> Image.Image:
    """The frame scaled into a cell with its aspect ratio kept."""
    image = Image.fromarray(frame)
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    cell = Image.new("RGB", (width, height), background)
    cell.paste(image.resize(size, Image.Resampling.BILINEAR), ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell


def strip(site: PageFolder, row: int, frames: TrackletFrames) -> dict:
    """Some frames of a tracklet side by side, as one file: its name and the number of frames."""
    cells = [np.asarray(fitted(frame, _HEIGHT, _WIDTH, "gray")) for frame in frames.spread(row, IN_STRIP)]
    return {"file": site.picture(f"tracklet-{row}", np.concatenate(cells, axis=1)), "frames": len(cells)}


class RawQueries:
    """The queries of the record set that holds the same tracklets before Re-Detect and Link.

    Args:
        directory: of those records.
        names: of the queries that it must have.
    Raises:
        InputError: it is not that data set.
    """

    def __init__(self, directory: str | Path, names: Sequence[str]):
        self._records = RecordSet.open(directory, "query")
        self._positions = {name: position for position, name in enumerate(self._records.names)}
        for name in names:
            if name not in self._positions:
                raise InputError(f"{directory}: there is no query {name}; {_REMEDY}")

    def beside(self, record: TrackletRecord, indices: Sequence[int]) -> list[np.ndarray]:
        """The frames from which frames `indices` of a record were made, uint8 `[h, w, 3]` RGB each."""
        position = self._positions[record.name]
        places = {source: k for k, source in enumerate(self._records.record(position).sources)}
        wanted = [record.sources[k] for k in indices]
        if missing := [source for source in wanted if source not in places]:
            raise InputError(f"{self._records.directory}: query {record.name} has no frame {missing[0]}; {_REMEDY}")
        return read_stored(self._records, position, [places[source] for source in wanted])
