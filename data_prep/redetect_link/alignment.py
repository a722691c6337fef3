"""The cut of Re-Detect and Link (paper, section 3.1): detect, link, cut, resize, shift, pad.

For every tracklet: pad the crops, detect persons, link one per frame (`linking`), cut its box, resize it with its
aspect ratio kept, shift a person that a border of the crop cuts off, pad with black, and keep the rectangle of real
pixels as the mask. What the paper leaves open is a field of `AlignmentSettings`. Boxes and rectangles are
`(y0, y1, x0, x1)` in pixels, end exclusive.

A frame without a detection takes the chosen box of the nearest frame in time (the earlier one of two). Where no frame
is near enough it keeps the whole crop, and its mask says that all pixels are real, as without alignment.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import cv2
import numpy as np

from cfaan_jax.errors import InputError
from data_prep.flags import check_range, parse_size
from data_prep.redetect_link.clock import Clock
from data_prep.redetect_link.detectors import Detector
from data_prep.redetect_link.linkers import Linker
from data_prep.redetect_link.linking import link

_BORDERS = {"replicate": cv2.BORDER_REPLICATE, "zero": cv2.BORDER_CONSTANT}


def _setting(default: Any, kind: Any, text: str) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text})


@dataclass(frozen=True)
class AlignmentSettings:
    """The choices of Re-Detect and Link. Every field is a flag of the same name, and its help documents it.

    The paper gives the momentum; the other values are ours.
    """

    image_size: tuple[int, int] = _setting((256, 128), parse_size, "size of the written frames, HEIGHTxWIDTH")
    detector_confidence: float | None = _setting(
        None, float, "lowest score of a detection; unset: the detector's own default")
    detector_nms: float | None = _setting(
        None, float, "highest intersection over union of two detections; unset: the detector's own default")
    detector_size: tuple[int, int] | None = _setting(
        None, parse_size, "size at which the detector sees the padded crop; unset: the detector's own default")
    padding: float = _setting(
        0.1875, float, "border around the crop before detection, as a share of its height (48 of 256 pixels): "
                       "detectors miss persons that fill the image")
    padding_mode: str = _setting("replicate", str, "content of the border: replicate (the edge pixels) or zero")
    minimum_area: float = _setting(
        0.03, float, "smallest detection: the share of the crop that its part inside the crop must cover")
    momentum: float = _setting(
        0.9, float, "weight of the old average feature of the followed person at every frame")
    slim_ratio: float = _setting(
        0.3, float, "a box with width / height below this is slim. If it touches only the left border of the crop, "
                    "the left part of the person is missing and the picture goes to the right of the frame; only the "
                    "right border: to the left; other pictures are centred")
    wide_ratio: float = _setting(
        0.6, float, "a box with width / height above this is wide. If it touches only the bottom border, the legs are "
                    "missing and the picture goes to the top of the frame; only the top border: to the bottom")
    border_reach: float = _setting(
        0.03, float, "a box touches a border that is at most this share of the crop's width (height) away")
    fallback_reach: int = _setting(
        5, int, "a frame without a detection takes the box of the nearest frame at most this many frames away, else "
                "the whole crop; 0: always the whole crop")

    def __post_init__(self):
        if self.padding_mode not in _BORDERS:
            raise InputError(f"--padding_mode={self.padding_mode}: must be one of {', '.join(_BORDERS)}")
        for name, low, high in (("padding", 0, 1), ("minimum_area", 0, 1), ("momentum", 0, 1), ("border_reach", 0, 0.5),
                                ("slim_ratio", 0, np.inf), ("wide_ratio", 0, np.inf), ("fallback_reach", 0, np.inf),
                                ("detector_nms", 0, 1), ("detector_confidence", -1e6, 1e6)):
            check_range(name, getattr(self, name), low, high)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds one flag for every field of `AlignmentSettings`."""
    group = parser.add_argument_group("Re-Detect and Link")
    for setting in fields(AlignmentSettings):
        default = setting.default
        shown = "x".join(map(str, default)) if isinstance(default, tuple) else default
        suffix = "" if default is None else f" (default {shown})"
        group.add_argument(f"--{setting.name}", type=setting.metadata["kind"], default=default,
                           help=(setting.metadata["help"] + suffix).replace("%", "%%"))


def settings_from(args: argparse.Namespace) -> AlignmentSettings:
    """Returns the settings that the flags of `add_flags` ask for; InputError for a value out of range."""
    return AlignmentSettings(**{setting.name: getattr(args, setting.name) for setting in fields(AlignmentSettings)})


@dataclass(frozen=True)
class Candidates:
    """The persons detected in one crop.

    Attributes:
        boxes: int32 `[n, 4]`, their parts inside the crop, in its pixels.
        scores: float32 `[n]`, of the detector.
        distances: `[n]`, to the average feature of the followed person, or None where nothing was compared.
        chosen: index of the followed person, None without a detection.
    """

    boxes: np.ndarray
    scores: np.ndarray
    distances: np.ndarray | None = None
    chosen: int | None = None


@dataclass(frozen=True)
class AlignedFrame:
    """One frame after Re-Detect and Link.

    Attributes:
        image: uint8 `[H, W, 3]`, RGB, black outside `rectangle`.
        rectangle: the mask, that is where the pixels of the source are; at least one pixel.
        box: what was cut, in pixels of the source crop; at least one pixel, inside the crop.
        action: `largest`, `linked` or `fallback`, then the shift of the picture: `|shift_left`, `|shift_right`,
            `|shift_up` or `|shift_down`.
        candidates: all detected persons, for the preview.
    """

    image: np.ndarray
    rectangle: tuple[int, int, int, int]
    box: tuple[int, int, int, int]
    action: str
    candidates: Candidates


def align_tracklet(images: Sequence[np.ndarray], detector: Detector, linker: Linker,
                   settings: AlignmentSettings, clock: Clock | None = None) -> list[AlignedFrame]:
    """Re-detects and links one tracklet.

    Args:
        images: the crops in temporal order, uint8 `[h, w, 3]`, RGB; sizes may differ.
        detector, linker: see `detectors.create` and `linkers.create`.
        settings: every threshold.
        clock: takes the time of the stages.

    Returns:
        One frame per crop, in order.
    """
    clock = clock or Clock()
    with clock.stage("detect", len(images)):
        candidates = _detect(images, detector, settings)
    with clock.stage("link", len(images)):
        candidates = _link(images, candidates, linker, settings)
    start = next((index for index, persons in enumerate(candidates) if persons.chosen is not None), None)
    frames = []
    with clock.stage("cut", len(images)):
        for index, (image, persons) in enumerate(zip(images, candidates, strict=True)):
            if persons.chosen is None:
                box, action = _fallback(index, images, candidates, settings), "fallback"
            else:
                box, action = tuple(persons.boxes[persons.chosen].tolist()), "largest" if index == start else "linked"
            picture, rectangle, shift = cut(image, box, settings)
            frames.append(AlignedFrame(picture, rectangle, box, action + shift, persons))
    return frames


def cut(image: np.ndarray, box: tuple[int, int, int, int],
        settings: AlignmentSettings) -> tuple[np.ndarray, tuple[int, int, int, int], str]:
    """Cuts a box out of a crop and fits it into a frame of the final size.

    Args:
        image: uint8 `[h, w, 3]`.
        box: at least one pixel, inside the image.

    Returns:
        The frame, uint8 `[H, W, 3]`; the rectangle of the pixels from the source; `""` or `|shift_<direction>`.
    """
    y0, y1, x0, x1 = box
    height, width = settings.image_size
    scale = min(height / (y1 - y0), width / (x1 - x0))  # section 3.1: the aspect ratio is kept
    rows = min(height, max(1, round((y1 - y0) * scale)))
    columns = min(width, max(1, round((x1 - x0) * scale)))
    shift = _shift(box, image.shape[:2], settings)  # section 3.1: a cut person is shifted
    top = {"|shift_up": 0, "|shift_down": height - rows}.get(shift, (height - rows) // 2)
    left = {"|shift_left": 0, "|shift_right": width - columns}.get(shift, (width - columns) // 2)
    frame = np.zeros((height, width, 3), np.uint8)  # section 3.1: padded, with a mask
    frame[top:top + rows, left:left + columns] = cv2.resize(
        image[y0:y1, x0:x1], (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return frame, (top, top + rows, left, left + columns), shift


def _shift(box: tuple[int, int, int, int], size: tuple[int, int], settings: AlignmentSettings) -> str:
    """Where a person goes that one border of the crop cuts off: to the other side, so that the rest would fit."""
    y0, y1, x0, x1 = box
    reach_y, reach_x = (settings.border_reach * length for length in size)
    ratio = (x1 - x0) / (y1 - y0)
    left, right = x0 <= reach_x, x1 >= size[1] - reach_x
    top, bottom = y0 <= reach_y, y1 >= size[0] - reach_y
    if ratio < settings.slim_ratio and left != right:
        return "|shift_right" if left else "|shift_left"
    if ratio > settings.wide_ratio and top != bottom:
        return "|shift_down" if top else "|shift_up"
    return ""


def _detect(images: Sequence[np.ndarray], detector: Detector, settings: AlignmentSettings) -> list[Candidates]:
    """Detects the persons of padded crops; returns their boxes in pixels of the crop, clipped to it."""
    borders = [round(settings.padding * image.shape[0]) for image in images]
    padded = [cv2.copyMakeBorder(image, *[border] * 4, _BORDERS[settings.padding_mode])
              for image, border in zip(images, borders, strict=True)]
    candidates = []
    for image, border, detections in zip(images, borders, detector.detect(padded), strict=True):
        height, width = image.shape[:2]
        boxes = np.rint(detections.boxes.reshape(-1, 4) - border)
        boxes = np.clip(boxes, 0, [height, height, width, width]).astype(np.int32)
        area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        large = (area > 0) & (area >= settings.minimum_area * height * width)
        candidates.append(Candidates(boxes[large], detections.scores[large]))
    return candidates


def _link(images: Sequence[np.ndarray], candidates: Sequence[Candidates], linker: Linker,
          settings: AlignmentSettings) -> list[Candidates]:
    """Chooses a person in every frame; the features of the whole tracklet come from one call."""
    if all(len(persons.scores) < 2 for persons in candidates):  # nothing to compare, so no features are needed
        return [replace(persons, chosen=0 if len(persons.scores) else None) for persons in candidates]
    crops = [image[y0:y1, x0:x1] for image, persons in zip(images, candidates, strict=True)
             for y0, y1, x0, x1 in persons.boxes]
    ends = np.cumsum([len(persons.scores) for persons in candidates])
    features = np.split(linker.features(crops), ends[:-1])
    choices, distances = link(features, [persons.boxes for persons in candidates], settings.momentum)
    compared = features[0].shape[1] > 0  # `largest` has no features
    return [replace(persons, chosen=choice, distances=distance if compared else None)
            for persons, choice, distance in zip(candidates, choices, distances, strict=True)]


def _fallback(index: int, images: Sequence[np.ndarray], candidates: Sequence[Candidates],
              settings: AlignmentSettings) -> tuple[int, int, int, int]:
    """The box for a frame without a detection, in proportion where the crops have different sizes."""
    height, width = images[index].shape[:2]
    near = range(max(0, index - settings.fallback_reach), min(len(images), index + settings.fallback_reach + 1))
    other = min((j for j in near if candidates[j].chosen is not None), key=lambda j: abs(j - index), default=None)
    if other is None:
        return 0, height, 0, width
    box = candidates[other].boxes[candidates[other].chosen]
    scale = np.array([height, height, width, width]) / np.repeat(images[other].shape[:2], 2)
    y0, y1, x0, x1 = np.rint(box * scale).astype(int).tolist()
    y0, x0 = min(y0, height - 1), min(x0, width - 1)
    return y0, max(y1, y0 + 1), x0, max(x1, x0 + 1)
