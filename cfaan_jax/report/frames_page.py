"""The page of a few queries frame by frame: masks, the frames from which they were cut, and attention."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from cfaan_jax.data.clips import test_clips
from cfaan_jax.data.records import RecordSet
from cfaan_jax.metrics.search import Search
from cfaan_jax.models import VideoReID
from cfaan_jax.models.attention_maps import axial_block
from cfaan_jax.report import attention
from cfaan_jax.report.frames import RawQueries, TrackletFrames, read_stored
from cfaan_jax.report.page import PageFolder
from cfaan_jax.report.ranked_queries import RankedQuery, Selection, label_text

FILE = "frames.html"


def write(site: PageFolder, search: Search, selection: Selection, frames: TrackletFrames, model: VideoReID,
          config: ConfigDict) -> None:
    """Writes the page: one clip of every query, with the first frame of each of the tracklet's equal parts.

    `config.eval.raw_records` holds the frames before Re-Detect and Link. If the model has CF-AA blocks, the attention
    in `config.eval.attention_block` is shown.
    """
    queries = selection.all()
    located = [frames.locate(query.row) for query in queries]
    clips = [test_clips(int(records.lengths[position]), config.data.clip_length, "test")[0]
             for records, position in located]
    raw = None
    if search.about.aligned and config.eval.raw_records:
        raw = RawQueries(config.eval.raw_records, [str(search.names[query.row]) for query in queries])
    examples = [_example(site, query, records, position, clip, raw) | {"label": label_text(search, query.row)}
                for query, (records, position), clip in zip(queries, located, clips, strict=True)]
    scripts, values = [], {"layer": "", "scales": []}
    if attention.exists(config):
        scripts, values = _attention(site, model, config, located, clips)
    site.page(FILE, scripts, examples=examples, worst=len(selection.worst), aligned=search.about.aligned, **values)


def _example(site: PageFolder, query: RankedQuery, records: RecordSet, position: int, clip: np.ndarray,
             raw: RawQueries | None) -> dict:
    """A query's frames for the template, and the raw ones beside them if there are any."""
    record = records.record(position)
    frames = [_frame(site, f"query-{query.row}-{place}", picture, record.rectangles[k])
              | {"caption": f"frame {k + 1}", "action": record.actions[k], "source": record.sources[k]}
              for place, (k, picture) in enumerate(zip(clip, read_stored(records, position, clip), strict=True))]
    sources = raw.sources_of(record, clip) if raw else []
    raw_frames = [_frame(site, f"raw-{query.row}-{place}", picture, record.boxes[clip[place]])
                  for place, picture in enumerate(sources)]
    return {"row": query.row, "name": record.name, "ap": query.ap, "frames": frames, "raw": raw_frames}


def _frame(site: PageFolder, name: str, picture: np.ndarray, rectangle: np.ndarray) -> dict:
    """A picture and a rectangle `(y0, y1, x0, x1)` in its pixels, for the template."""
    y0, y1, x0, x1 = rectangle.tolist()
    return {"file": site.picture(name, picture), "height": picture.shape[0], "width": picture.shape[1],
            "rectangle": {"y": y0, "height": y1 - y0, "x": x0, "width": x1 - x0}}


def _attention(site: PageFolder, model: VideoReID, config: ConfigDict, located: Sequence[tuple[RecordSet, int]],
               clips: Sequence[np.ndarray]) -> tuple[list[str], dict]:
    """Scripts with the attention in all clips, and for the template its layer and the size of every scale."""
    block = config.eval.attention_block
    maps = attention.clip_attention(model, block, located, clips, tuple(config.data.image_size))
    data = {"order": config.model.order, "clips": list(map(attention.pack, maps))}
    return [site.data("attention", data), site.static("frames.js")], {
        "layer": axial_block(model, block)[0], "scales": [scale["h"].shape[1:3] for scale in maps[0]]}
