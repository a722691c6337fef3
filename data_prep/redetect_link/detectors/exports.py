"""Exported detectors: the family of a network, how images go in, and how its outputs become boxes.

The shapes of the outputs for one input tell the family, never a file's name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_prep.redetect_link.detectors.boxes import PERSON_CLASS, Detections, letterbox, resize, suppress

GREY = 114  # around an image that does not fill the network's input, as in YOLOX and Ultralytics
_STRIDES = (8, 16, 32)
_IMAGENET_BGR = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # NanoDet's mean and standard deviation


class Scored(NamedTuple):
    """Boxes float `[n, 4]`, (y0, y1, x0, x1) in pixels of the network's input, and scores `[n, classes]`."""

    boxes: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Family:
    """The inputs and outputs of the networks of one family.

    Attributes:
        name: for messages.
        classes: their number, 0 if the outputs do not tell it.
        read: (outputs of one image, height and width of the input) -> `Scored`.
        bgr: whether the first channel is blue.
        mean, deviation: of its inputs, in grey values 0 to 255, in the order of its channels.
        stretched: whether an image is stretched to the input; otherwise its aspect ratio is kept.
        confidence: default for the lowest score of a detection.
    """

    name: str
    classes: int
    read: Callable[[Sequence[np.ndarray], tuple[int, int]], Scored]
    bgr: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (255.0, 255.0, 255.0)
    stretched: bool = False
    confidence: float = 0.3

    def tensor(self, canvases: Sequence[np.ndarray]) -> np.ndarray:
        """The network's input, float32 `[B, 3, H, W]`, from images uint8 `[H, W, 3]`, RGB."""
        images = np.stack(canvases).astype(np.float32)
        images = images[..., ::-1] if self.bgr else images
        images = (images - np.float32(self.mean)) / np.float32(self.deviation)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


class ExportedDetector:
    """A network of one family. A subclass loads it, sets `device` and defines `_run`.

    Args:
        family, person: see `recognise` and `person_class`.
        confidence: lowest score of a detection; None: the family's default.
        nms: highest intersection over union of two detections.
        size: height and width of the input.
        batch: images per call of `_run`.
    """

    device: str

    def __init__(self, family: Family, person: int, confidence: float | None, nms: float, size: tuple[int, int],
                 batch: int):
        self._family, self._person, self._nms, self._size, self._batch = family, person, nms, size, batch
        self._confidence = family.confidence if confidence is None else confidence

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of every image (uint8 `[h, w, 3]`, RGB)."""
        detections = []
        for start in range(0, len(images), self._batch):
            canvases, scales = zip(*map(self._fit, images[start:start + self._batch]), strict=True)
            outputs = self._run(self._family.tensor(canvases))
            for row, scale in enumerate(scales):
                boxes, scores = self._family.read([output[row] for output in outputs], self._size)
                scores = scores[:, self._person]
                sure = scores >= self._confidence
                detections.append(suppress(boxes[sure] / np.repeat(scale, 2), scores[sure], self._nms))
        return detections

    def _fit(self, image: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        """An image of the input's size, and the scales of its rows and columns."""
        if self._family.stretched:
            return resize(image, self._size), (self._size[0] / image.shape[0], self._size[1] / image.shape[1])
        canvas, scale = letterbox(image, self._size, GREY)
        return canvas, (scale, scale)

    def _run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The outputs for float32 `[B, 3, H, W]`, B at most `batch`, with one entry per image."""
        raise NotImplementedError


def person_class(classes: int, names: Mapping[int, str] | None = None) -> int | None:
    """Index of the person among the classes, by their names where a file has them; None if unknown."""
    if names and any(name != str(index) for index, name in names.items()):  # numbers replace missing names
        return next((index for index, name in names.items() if name == "person"), 0 if classes == 1 else None)
    return PERSON_CLASS.get(classes)


def recognise(outputs: Sequence[np.ndarray], size: tuple[int, int]) -> Family | None:
    """The family of a network, by its outputs `[1, ...]` for an empty image of a size (height, width)."""
    if len(outputs) == 2 * len(_STRIDES) and all(output.ndim == 3 for output in outputs):
        return _nanodet(outputs)
    if len(outputs) == 1 and outputs[0].ndim == 4 and outputs[0].shape[1] > 5:
        return Family("FastestDet", outputs[0].shape[1] - 5, _read_fastestdet, bgr=True, stretched=True,
                      confidence=0.6)
    first = outputs[0]
    if first.ndim != 3:
        return None
    cells, (_, rows, columns) = sum(size[0] // s * (size[1] // s) for s in _STRIDES), first.shape
    if rows == cells and columns > 5:
        decoded = _is_decoded(first[0], size)
        return Family("YOLOX", columns - 5, _read_centres if decoded else _read_yolox, bgr=True,
                      deviation=(1.0, 1.0, 1.0))
    if rows == 3 * cells and columns > 5:
        return Family("YOLOv5", columns - 5, _read_centres)
    if columns == cells and rows > 4:
        return Family("Ultralytics", rows - 4, _read_ultralytics)
    if columns == 6:
        return Family("Ultralytics, end to end", 0, _read_end_to_end)
    return None


def _corners(centre_x, centre_y, width, height) -> np.ndarray:
    return np.stack([centre_y - height / 2, centre_y + height / 2, centre_x - width / 2, centre_x + width / 2], axis=1)


def _cells(size: tuple[int, int]) -> np.ndarray:
    """Column, row and stride of the cells of the three maps, float `[cells, 3]`."""
    grids = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[:size[0] // stride, :size[1] // stride]
        grids.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(grids).astype(np.float32)


def _read_ultralytics(outputs: Sequence[np.ndarray], _: tuple[int, int]) -> Scored:
    """`[4 + classes, n]`: centre and size in pixels, then probabilities (YOLOv8 and later)."""
    table = outputs[0].T
    return Scored(_corners(*table[:, :4].T), table[:, 4:])


def _read_end_to_end(outputs: Sequence[np.ndarray], _: tuple[int, int]) -> Scored:
    """`[n, 6]`: corners in pixels, score and class (YOLOv10, YOLO26); scores as one column a class."""
    x0, y0, x1, y1, score, label = outputs[0].T
    columns = np.arange(max(80, int(label.max(initial=0)) + 1))
    return Scored(np.stack([y0, y1, x0, x1], axis=1), np.where(label[:, None] == columns, score[:, None], 0.0))


def _read_centres(outputs: Sequence[np.ndarray], _: tuple[int, int]) -> Scored:
    """`[n, 5 + classes]`: centre and size in pixels, objectness, probabilities (YOLOv5; YOLOX exported decoded)."""
    table = outputs[0]
    return Scored(_corners(*table[:, :4].T), table[:, 4:5] * table[:, 5:])


def _read_yolox(outputs: Sequence[np.ndarray], size: tuple[int, int]) -> Scored:
    """`_read_centres` with centres relative to their cells and logarithms of sizes, in strides."""
    table, cells = outputs[0], _cells(size)
    centres = (table[:, :2] + cells[:, :2]) * cells[:, 2:]
    sizes = np.exp(table[:, 2:4]) * cells[:, 2:]
    return Scored(_corners(*centres.T, *sizes.T), table[:, 4:5] * table[:, 5:])


def _is_decoded(table: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether the centres of a YOLOX output are in pixels: then they grow with their cells."""
    cells = _cells(size)
    expected = (cells[:, :2] + 0.5) * cells[:, 2:]
    raw, pixels = np.abs(table[:, :2]), np.abs(table[:, :2] - expected)
    return bool(np.median(pixels) < np.median(raw))


def _read_fastestdet(outputs: Sequence[np.ndarray], size: tuple[int, int]) -> Scored:
    """`[5 + classes, h, w]`: objectness, offset and size of one box a cell, probabilities."""
    maps = outputs[0]
    _, rows, columns = maps.shape
    table = maps.reshape(len(maps), -1).T
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    sigmoid = 1 / (1 + np.exp(-table[:, 3:5]))
    boxes = _corners((np.tanh(table[:, 1]) + x) / columns * size[1], (np.tanh(table[:, 2]) + y) / rows * size[0],
                     sigmoid[:, 0] * size[1], sigmoid[:, 1] * size[0])
    return Scored(boxes, table[:, :1] ** 0.6 * table[:, 5:] ** 0.4)


def _nanodet(outputs: Sequence[np.ndarray]) -> Family | None:
    """Two tables a stride, probabilities `[n, classes]` and distributions of four distances `[n, 4 * bins]`.

    The tables come in any order. Both tables of a stride have the same n; the one with values outside 0 to 1 holds the
    distributions.
    """
    pairs = [sorted((index for index, output in enumerate(outputs) if output.shape[1] == cells),
                    key=lambda index: outputs[index].min() < 0 or outputs[index].max() > 1)
             for cells in sorted({output.shape[1] for output in outputs}, reverse=True)]
    if [len(pair) for pair in pairs] != [2] * len(_STRIDES) or any(outputs[pair[1]].shape[2] % 4 for pair in pairs):
        return None

    def read(tables: Sequence[np.ndarray], size: tuple[int, int]) -> Scored:
        probabilities = np.concatenate([tables[first] for first, _ in pairs])
        bins = np.concatenate([tables[second] for _, second in pairs])
        bins = np.exp(bins.reshape(len(bins), 4, -1) - bins.max(axis=1)[:, None, None])
        cells = _cells(size)
        distances = (bins / bins.sum(-1, keepdims=True)) @ np.arange(bins.shape[-1]) * cells[:, 2:]
        x, y = ((cells[:, :2] + 0.5) * cells[:, 2:]).T
        left, top, right, bottom = distances.T
        return Scored(np.stack([y - top, y + bottom, x - left, x + right], axis=1), probabilities)

    mean, deviation = _IMAGENET_BGR
    return Family("NanoDet", outputs[pairs[0][0]].shape[2], read, bgr=True, mean=mean, deviation=deviation)
