"""Contact sheets of what Re-Detect and Link did to a tracklet (after figures 1 and 5 of the paper)."""

from collections.abc import Sequence

import cv2
import numpy as np

from data_prep.redetect_link.alignment import AlignedFrame
from data_prep.redetect_link.tracklet import Tracklet

_CELL = (256, 144)  # rows and columns of one picture
_GAP = 6
_LABELS = 84        # columns at the left
_CAPTION = 18       # rows under the pictures of a row
_BACKGROUND, _INK, _FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)
_CHOSEN, _OTHER, _FALLBACK, _MASK = (0, 150, 60), (220, 120, 0), (200, 30, 60), (40, 120, 220)


def contact_sheet(tracklet: Tracklet, images: Sequence[np.ndarray], frames: Sequence[AlignedFrame],
                  columns: int = 8) -> np.ndarray:
    """Draws up to `columns` frames of a tracklet, evenly spaced in time.

    Three rows: before, with the candidates, their scores and, where persons were compared, their distances to the
    followed person (the chosen box is green, others orange, a fallback red); after; the mask over the result.

    Args:
        images: the crops, uint8 `[h, w, 3]`, RGB.
        frames: the results of `align_tracklet`.

    Returns:
        uint8 `[rows, columns, 3]`, RGB.
    """
    shown = np.unique(np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int))
    title = f"{tracklet.name}  {tracklet.split}  pid {tracklet.pid}  camera {tracklet.camid}  {len(frames)} frames"
    header = np.full((24, _LABELS + len(shown) * (_CELL[1] + _GAP), 3), _BACKGROUND, np.uint8)
    _write(header, title, (6, 17), _INK, 0.5)
    return np.concatenate([
        header,
        _row("before", [_before(images[k], frames[k]) for k in shown],
             [f"frame {k}: {len(frames[k].candidates.scores)} found" for k in shown]),
        _row("after", [_fit(frames[k].image)[0] for k in shown], [frames[k].action for k in shown]),
        _row("mask", [_masked(frames[k]) for k in shown], ["{}:{}, {}:{}".format(*frames[k].rectangle) for k in shown]),
    ])


def _row(label: str, pictures: Sequence[np.ndarray], captions: Sequence[str]) -> np.ndarray:
    row = np.full((_CELL[0] + _CAPTION, _LABELS + len(pictures) * (_CELL[1] + _GAP), 3), _BACKGROUND, np.uint8)
    _write(row, label, (6, _CELL[0] // 2), _INK, 0.5)
    for column, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = _LABELS + column * (_CELL[1] + _GAP)
        row[:_CELL[0], left:left + _CELL[1]] = picture
        _write(row, caption.replace("|", " "), (left, _CELL[0] + 13), _FAINT, 0.38)
    return row


def _before(image: np.ndarray, frame: AlignedFrame) -> np.ndarray:
    picture, scale, corner = _fit(image)
    persons = frame.candidates
    for index, (box, score) in enumerate(zip(persons.boxes, persons.scores, strict=True)):
        text = f"{score:.2f}" + ("" if persons.distances is None else f" d{persons.distances[index]:.3g}")
        _outline(picture, box, scale, corner, _CHOSEN if index == persons.chosen else _OTHER, text)
    if persons.chosen is None:
        _outline(picture, frame.box, scale, corner, _FALLBACK, "fallback")
    return picture


def _masked(frame: AlignedFrame) -> np.ndarray:
    y0, y1, x0, x1 = frame.rectangle
    masked = np.full_like(frame.image, 128)
    masked[y0:y1, x0:x1] = frame.image[y0:y1, x0:x1]
    picture, scale, corner = _fit(masked)
    _outline(picture, frame.rectangle, scale, corner, _MASK, "")
    return picture


def _fit(image: np.ndarray) -> tuple[np.ndarray, float, tuple[int, int]]:
    """Centres an image in a grey cell; returns the cell, the scale and the upper left corner (row, column)."""
    scale = min(_CELL[0] / image.shape[0], _CELL[1] / image.shape[1])
    rows, columns = (max(1, int(length * scale)) for length in image.shape[:2])
    top, left = (_CELL[0] - rows) // 2, (_CELL[1] - columns) // 2
    cell = np.full((*_CELL, 3), 225, np.uint8)
    cell[top:top + rows, left:left + columns] = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return cell, scale, (top, left)


def _outline(picture: np.ndarray, box: Sequence[int], scale: float, corner: tuple[int, int],
             colour: tuple[int, int, int], text: str) -> None:
    y0, y1, x0, x1 = (np.rint(np.asarray(box) * scale).astype(int) + np.repeat(corner, 2)).tolist()
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
    if text:
        _write(picture, text, (x0 + 3, max(y0 + 12, 12)), colour, 0.4)


def _write(picture: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int], size: float) -> None:
    if colour not in (_INK, _FAINT):  # on a picture: an outline makes it legible
        cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, _BACKGROUND, 3, cv2.LINE_AA)
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
