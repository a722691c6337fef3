"""The page of a few queries frame by frame: masks, the frames that they were cut from, and attention."""

from collections.abc import Sequence

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from cfaan_jax.data.clips import test_clips
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.metrics.search import Search
from cfaan_jax.report import attention
from cfaan_jax.report.frames import RawQueries, TrackletFrames, read_stored
from cfaan_jax.report.listed import Chosen, who
from cfaan_jax.report.page import PageFolder

FILE = "frames.html"


def write(site: PageFolder, found: Search, chosen: Chosen, frames: TrackletFrames, model: nnx.Module,
          config: ConfigDict) -> None:
    """Writes the page: one clip of each query, the one that has the first frame of each of its parts.

    Args:
        site: where.
        found, chosen: the queries.
        frames: their frames.
        model: its attention is shown if it has some.
        config: `config.eval.raw_records` holds the frames before Re-Detect and Link, `config.eval.attention_block` says
            which block.
    """
    listed = chosen.all()
    places = [frames.place(each.row) for each in listed]
    clips = [test_clips(int(records.lengths[position]), config.data.clip_length, "test")[0]
             for records, position in places]
    raw = None
    if found.about.aligned and config.eval.raw_records:
        raw = RawQueries(config.eval.raw_records, [str(found.names[each.row]) for each in listed])
    shown = []
    for each, (records, position), indices in zip(listed, places, clips, strict=True):
        record = records.record(position)
        shown.append({"row": each.row, "name": record.name, "who": who(found, each.row), "ap": each.ap,
                      "frames": _frames(site, each.row, record, indices, read_stored(records, position, indices)),
                      "raw": _raw_frames(site, each.row, record, indices, raw) if raw else []})
    scripts, words = _attention(site, model, config, places, clips) if attention.exists(config) else ([], {})
    site.page(FILE, scripts, examples=shown, worst=len(chosen.worst), aligned=found.about.aligned,
              **{"layer": "", "scales": []} | words)


def _attention(site: PageFolder, model: nnx.Module, config: ConfigDict, places: Sequence[tuple[RecordSet, int]],
               clips: Sequence[np.ndarray]) -> tuple[list[str], dict]:
    """Scripts with the attention in all clips, and for the template its layer and the size of each scale."""
    block = config.eval.attention_block
    maps = attention.of_clips(model, block, places, clips, tuple(config.data.image_size))
    data = {"order": config.model.order, "clips": list(map(attention.packed, maps))}
    return [site.data("attention", data), site.static("frames.js")], {
        "layer": model.axial_block(block)[0], "scales": [scale["h"].shape[1:3] for scale in maps[0]]}


def _frames(site: PageFolder, row: int, record: TrackletRecord, indices: Sequence[int],
            pictures: Sequence[np.ndarray]) -> list[dict]:
    return [_frame(site, f"query-{row}-{place}", picture, record.rectangles[k])
            | {"caption": f"frame {k + 1}", "action": record.actions[k], "source": record.sources[k]}
            for place, (k, picture) in enumerate(zip(indices, pictures, strict=True))]


def _raw_frames(site: PageFolder, row: int, record: TrackletRecord, indices: Sequence[int],
                raw: RawQueries) -> list[dict]:
    return [_frame(site, f"raw-{row}-{place}", picture, record.boxes[k])
            for place, (k, picture) in enumerate(zip(indices, raw.beside(record, indices), strict=True))]


def _frame(site: PageFolder, name: str, picture: np.ndarray, rectangle: np.ndarray) -> dict:
    """A picture and a rectangle `(y0, y1, x0, x1)` in its pixels, for the template."""
    y0, y1, x0, x1 = rectangle.tolist()
    return {"file": site.picture(name, picture), "height": picture.shape[0], "width": picture.shape[1],
            "rectangle": {"y": y0, "height": y1 - y0, "x": x0, "width": x1 - x0}}
