"""Pictures of ranked lists: a query's frames, then the nearest gallery tracklets; a border says which are right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cfaan_jax.report.frames import fit_into_cell
from cfaan_jax.runtime.files import atomic_file

BORDERS = {"right": (30, 150, 70), "wrong": (205, 45, 40), "ignored": (150, 150, 150), "query": (40, 80, 190)}
_BORDER, _GAP, _TEXT = 4, 8, 12
_HEIGHT, _WIDTH = 160, 80
_IN_FONT = str.maketrans({"−": "-", "²": "^2"})  # Pillow's font has neither


@dataclass(frozen=True)
class Entry:
    """One tracklet in a list: a frame uint8 `[h, w, 3]` RGB, the lines under it, and a key of `BORDERS`."""

    frame: np.ndarray
    lines: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class RankedList:
    """A query's frames and the nearest gallery tracklets, nearest first."""

    title: str
    query: Sequence[Entry]
    answers: Sequence[Entry]


def draw(lists: Sequence[RankedList], path: Path, title: str) -> None:
    """Writes one PNG with a row for every list; `title`, of one or more lines, says what was scored."""
    small, font, large = (ImageFont.load_default(size) for size in (_TEXT - 1, _TEXT, _TEXT + 2))
    left = max(len(ranked.query) for ranked in lists)
    lines = max(len(entry.lines) for ranked in lists for entry in (*ranked.query, *ranked.answers))
    cell_width, line_height = _WIDTH + 2 * _BORDER + _GAP, _TEXT + 3
    row_height = 2 * line_height + _HEIGHT + 2 * _BORDER + lines * line_height + _GAP
    heading, heading_height = title.split("\n"), _TEXT + 8
    top = 2 * _GAP + len(heading) * heading_height + line_height
    width = 3 * _GAP + cell_width * (left + max(len(ranked.answers) for ranked in lists))
    title_width = max(large.getlength(line) for line in heading) + 2 * _GAP
    canvas = Image.new("RGB", (int(max(width, title_width)), top + row_height * len(lists)), "white")
    pen = ImageDraw.Draw(canvas)
    for i, line in enumerate(heading):
        pen.text((_GAP, _GAP + i * heading_height), line, fill="black", font=large)
    _legend(pen, (_GAP, top - line_height - _GAP // 2), font)
    for row, ranked in enumerate(lists):
        y = top + row * row_height
        pen.text((_GAP, y + 4), ranked.title, fill="black", font=font)
        for place, entries in ((0, ranked.query), (left, ranked.answers)):
            for i, entry in enumerate(entries):
                x = _GAP + (place + i) * cell_width + (2 * _GAP if place else 0)
                _draw_entry(canvas, pen, entry, (x, y + line_height + 6), small)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        canvas.save(file, format="PNG")


def _legend(pen: ImageDraw.ImageDraw, corner: tuple[int, int], font) -> None:
    x, y = corner
    for kind, colour in BORDERS.items():
        pen.rectangle((x, y, x + _TEXT, y + _TEXT), fill=colour)
        pen.text((x + _TEXT + 4, y - 1), kind, fill="black", font=font)
        x += _TEXT + 4 + int(font.getlength(kind)) + 2 * _GAP


def _draw_entry(canvas: Image.Image, pen: ImageDraw.ImageDraw, entry: Entry, corner: tuple[int, int], font) -> None:
    x, y = corner
    pen.rectangle((x, y, x + _WIDTH + 2 * _BORDER - 1, y + _HEIGHT + 2 * _BORDER - 1), fill=BORDERS[entry.kind])
    canvas.paste(fit_into_cell(entry.frame, _HEIGHT, _WIDTH, "white"), (x + _BORDER, y + _BORDER))
    for i, line in enumerate(entry.lines):
        pen.text((x, y + _HEIGHT + 2 * _BORDER + 1 + i * (_TEXT + 3)), line.translate(_IN_FONT), fill="black",
                 font=font)

