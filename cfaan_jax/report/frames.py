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

FRAMES_IN_STRIP = 3
_HEIGHT, _WIDTH = 192, 96  # of a frame in a strip
_REMEDY = "config.eval.raw_records must name the same data set packed with --detector=none, or nothing"


class TrackletFrames:
    """Reads frames by the tracklet's row in a search; `parts` are the record sets of queries and gallery."""

    def __init__(self, search: Search, directory: str | Path):
        self._queries = search.num_queries
        names = search.names[:search.num_queries], search.names[search.num_queries:]
        splits = (RecordSet.open(directory, split) for split in ("query", "gallery"))
        self.parts = [records.only(np.isin(records.names, names_of_split))  # without damaged ones that were left out
                      for records, names_of_split in zip(splits, names, strict=True)]

    def locate(self, row: int) -> tuple[RecordSet, int]:
        """The split of a tracklet, and its position in it."""
        query, gallery = self.parts
        return (query, row) if row < self._queries else (gallery, row - self._queries)

    def record(self, row: int) -> TrackletRecord:
        """The record of a tracklet."""
        records, position = self.locate(row)
        return records.record(position)

    def spread(self, row: int, count: int) -> list[np.ndarray]:
        """Frames uint8 `[h, w, 3]` RGB from the middles of `count` equal parts; a short tracklet gives fewer."""
        records, position = self.locate(row)
        return read_stored(records, position, spread(range(records.lengths[position]), count))


def spread(items: Sequence, count: int) -> list:
    """At most `count` of the items: the middles of that many equal parts."""
    count = min(count, len(items))
    return [items[len(items) * (2 * i + 1) // (2 * count)] for i in range(count)]


def read_stored(records: RecordSet, position: int, indices: Sequence[int]) -> list[np.ndarray]:
    """Frames of one tracklet, uint8 `[h, w, 3]` RGB, in the sizes in which they are stored."""
    sizes = records.image_sizes(position)
    return [read_clip(records, position, np.array([k]), tuple(sizes[k]))[0][0] for k in indices]


def fit_into_cell(frame: np.ndarray, height: int, width: int, background: str) -> Image.Image:
    """The frame scaled into a cell without changing its aspect ratio."""
    cell = Image.new("RGB", (width, height), background)
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    scaled = Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)
    cell.paste(scaled, ((width - size[0]) // 2, (height - size[1]) // 2))
    return cell


def side_by_side(frames: Sequence[np.ndarray], height: int, width: int, background: str) -> np.ndarray:
    """Frames in cells from left to right, uint8 `[height, n width, 3]` RGB."""
    return np.concatenate([np.asarray(fit_into_cell(frame, height, width, background)) for frame in frames], axis=1)


def write_strip(site: PageFolder, row: int, frames: TrackletFrames) -> dict:
    """Writes some frames of a tracklet side by side; returns the file's name and the number of frames."""
    shown = frames.spread(row, FRAMES_IN_STRIP)
    picture = site.picture(f"tracklet-{row}", side_by_side(shown, _HEIGHT, _WIDTH, "gray"))
    return {"file": picture, "frames": len(shown)}


class RawQueries:
    """The queries `names` of the records that hold the same tracklets before Re-Detect and Link, in `directory`.

    Raises InputError where that is another data set.
    """

    def __init__(self, directory: str | Path, names: Sequence[str]):
        self._records = RecordSet.open(directory, "query")
        self._positions = {name: position for position, name in enumerate(self._records.names)}
        for name in names:
            if name not in self._positions:
                raise InputError(f"{directory}: there is no query {name}; {_REMEDY}")

    def sources_of(self, record: TrackletRecord, indices: Sequence[int]) -> list[np.ndarray]:
        """The frames from which frames `indices` of a record were cut, uint8 `[h, w, 3]` RGB."""
        position = self._positions[record.name]
        places = {source: k for k, source in enumerate(self._records.record(position).sources)}
        sources = [record.sources[k] for k in indices]
        if missing := [source for source in sources if source not in places]:
            raise InputError(f"{self._records.directory}: query {record.name} has no frame {missing[0]}; {_REMEDY}")
        return read_stored(self._records, position, [places[source] for source in sources])
