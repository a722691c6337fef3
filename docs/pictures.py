"""Makes the pictures of the documentation from a finished quickstart, whose pedestrians are drawn by code.

    python docs/pictures.py runs/quickstart
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cfaan_jax.data.images import decode
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.metrics.search import Search
from cfaan_jax.report import curves
from cfaan_jax.report.frames import fit_into_cell
from data_prep.redetect_link import detectors, linkers
from data_prep.redetect_link.alignment import AlignedFrame, AlignmentSettings, align_tracklet

PICTURES = Path(__file__).parent / "pictures"
_WIDTH = 900
_HEADING, _LIST = 71, 236  # rows of pixels of a picture of ranked lists: above the first one, and of each one
_SIX_ANSWERS = 888  # columns of pixels: the query and six answers
_CELL = (168, 84)  # rows and columns of one frame in the overview
_GAP, _LABELS, _FRAMES = 8, 104, 4
_CHOSEN, _OTHER = (0, 150, 60), (220, 120, 0)


def main(run: Path) -> None:
    """Writes overview.webp, preview.webp, ranked.webp and cmc.svg."""
    sheets = sorted(run.glob("records/aligned/preview/query-*.png"))
    _save(Image.open(sheets[0]), "preview", _WIDTH)
    lists = Image.open(run / "cfaan-aligned/report/ranked-typical-last-all_sampled.png")
    _save(lists.crop((0, 0, lists.width, _HEADING + 2 * _LIST)), "ranked", _WIDTH)
    _save(_beside(_tracklet(run), lists.crop((0, _HEADING - 20, _SIX_ANSWERS, _HEADING + 3 * _LIST))), "overview", 1200)
    search = Search.load(run / "cfaan-aligned/features-last-all_sampled.npz")
    scores = search.score(("mars", "mars_revised"), run / "synthetic/corrections.csv")
    curves.cmc(scores, PICTURES / "cmc.svg")


def _tracklet(run: Path) -> Image.Image:
    """The query in whose frames most persons were detected, before and after each step of Re-Detect and Link."""
    aligned = RecordSet.open(run / "records/aligned", "query")
    position = max(range(len(aligned.names)), key=lambda i: np.sum(np.array(aligned.record(i).candidates) > 1))
    images = _images(RecordSet.open(run / "records/raw", "query").record(position))
    frames = align_tracklet(images, detectors.create("hog"), linkers.create(f"ide:{run / 'ide'}"), AlignmentSettings())
    crowded = [i for i, frame in enumerate(frames) if len(frame.candidates.scores) > 1]
    shown = sorted((crowded + [i for i in range(len(frames)) if i not in crowded])[:_FRAMES])
    return _rows({"tracklet": [images[i] for i in shown],
                  "detected": [_with_boxes(images[i], frames[i]) for i in shown],
                  "linked,\nre-cropped": [frames[i].image for i in shown],
                  "mask": [_mask(frames[i]) for i in shown]})


def _images(record: TrackletRecord) -> list[np.ndarray]:
    return [decode(frame) for frame in record.frames]


def _with_boxes(image: np.ndarray, frame: AlignedFrame) -> np.ndarray:
    picture = Image.fromarray(image)
    for index, (y0, y1, x0, x1) in enumerate(frame.candidates.boxes.tolist()):
        colour = _CHOSEN if index == frame.candidates.chosen else _OTHER
        ImageDraw.Draw(picture).rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=4)
    return np.asarray(picture)


def _mask(frame: AlignedFrame) -> np.ndarray:
    y0, y1, x0, x1 = frame.rectangle
    mask = np.zeros_like(frame.image)
    mask[y0:y1, x0:x1] = 255
    return mask


def _rows(rows: dict[str, Sequence[np.ndarray]]) -> Image.Image:
    """A labelled row of frames for each entry."""
    height, width = _CELL
    canvas = Image.new("RGB", (_LABELS + _FRAMES * (width + _GAP), len(rows) * (height + _GAP)), "white")
    for i, (label, frames) in enumerate(rows.items()):
        top = i * (height + _GAP)
        ImageDraw.Draw(canvas).text((_GAP, top + height // 2 - 12), label, "black", ImageFont.load_default(18))
        for column, frame in enumerate(frames):
            cell = fit_into_cell(frame, height, width, "lightgray")
            canvas.paste(cell, (_LABELS + column * (width + _GAP), top))
    return canvas


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (left.width + 4 * _GAP + right.width, max(left.height, right.height)), "white")
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + 4 * _GAP, 0))
    return canvas


def _save(picture: Image.Image, name: str, width: int) -> None:
    height = round(picture.height * width / picture.width)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    small.save(PICTURES / f"{name}.webp", quality=80)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of the finished quickstart")
    main(parser.parse_args().run)
