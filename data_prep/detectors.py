"""Person detectors behind one small interface: `hog`, which needs no file, and Darknet networks run by OpenCV.

Boxes are `(y0, y1, x0, x1)` in pixels of the image that was given, end exclusive; they may leave the image. A
detector looks for persons only, works on lists of images and may be called from several threads at once.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from cfaan_jax.errors import InputError

# Index of "person" by the number of classes: a network for persons alone, PASCAL VOC, COCO.
_PERSON_CLASS = {1: 0, 20: 14, 80: 0}
_BATCH = 8
_LETTERBOX_GREY = 127
# Rows and columns of OpenCV's HOG window, and the margins around the person in it. The SVM was trained with 16 pixels
# on every side; two fewer at the sides leave arms and legs in the picture.
_WINDOW, _MARGINS = (128, 64), (16, 14)
_SCALE_STEP = 1.05


@dataclass(frozen=True)
class Detections:
    """Persons found in one image, best first: `boxes` float32 `[n, 4]` in pixels, `scores` float32 `[n]`."""

    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """Finds the persons in images."""

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of each image (uint8 `[h, w, 3]`, RGB), in the order of the images."""


def create(spec: str, *, confidence: float | None = None, nms: float | None = None,
           input_size: tuple[int, int] | None = None) -> Detector:
    """Makes a detector from its name.

    Args:
        spec: `hog` or `darknet:<cfg>,<weights>`.
        confidence, nms, input_size: see the detectors; None takes the detector's own default, which was chosen on
            crops of one person.

    Raises:
        InputError: unknown name, or a file that is missing, broken or belongs to another network.
    """
    given = {"confidence": confidence, "nms": nms, "input_size": input_size}
    given = {name: value for name, value in given.items() if value is not None}
    kind, _, files = spec.partition(":")
    if kind == "hog" and not files:
        return HogDetector(**given)
    if kind == "darknet":
        cfg, _, weights = files.partition(",")
        if not cfg or not weights:
            raise InputError(f"--detector={spec}: a Darknet network needs two files, darknet:<cfg>,<weights>")
        return DarknetDetector(Path(cfg), Path(weights), **given)
    raise InputError(f"--detector={spec}: no such detector; choose hog or darknet:<cfg>,<weights>")


class HogDetector:
    """OpenCV's people detector: histograms of oriented gradients and a linear SVM (Dalal and Triggs, CVPR 2005).

    The SVM looks at windows of 128 x 64 pixels with a person of about 96 x 36 in their core, so an image is
    scaled to a height at which a person has at least that size, and a window is shrunk to its core. Around a tight
    crop it needs a border, which the alignment adds.

    Args:
        confidence: lowest distance to the SVM's plane that counts.
        nms: largest intersection over union of two boxes that are both kept; low, because the SVM answers at
            several scales around one person.
        input_size: `(height, width)`; images are scaled to this height, the width follows. The default halves a
            crop of 256 rows with its border of 48 pixels. Up to 256 rows there is a window every 4 pixels, in
            larger images, full frames, every 8.
    """

    def __init__(self, confidence: float = 0.3, nms: float = 0.3, input_size: tuple[int, int] = (176, 112)):
        self._confidence, self._nms, self._rows = confidence, nms, input_size[0]
        if self._rows < _WINDOW[0]:
            raise InputError(f"detector input size {input_size[0]}x{input_size[1]}: HOG needs at least "
                             f"{_WINDOW[0]} rows")
        self._stride = (4, 4) if self._rows <= 2 * _WINDOW[0] else (8, 8)
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of each image (uint8 `[h, w, 3]`, RGB)."""
        with ThreadPoolExecutor(cv2.getNumThreads()) as pool:
            return list(pool.map(self._detect_one, images))

    def _detect_one(self, image: np.ndarray) -> Detections:
        full = _resize(image, (self._rows, max(1, round(image.shape[1] * self._rows / image.shape[0]))))
        boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
        # Level by level, because OpenCV's own detectMultiScale does it in threads that mix up which score is whose.
        for shrink in _SCALE_STEP ** np.arange(1 + int(math.log(self._rows / _WINDOW[0], _SCALE_STEP))):
            rows, columns = round(full.shape[0] / shrink), max(1, round(full.shape[1] / shrink))
            level = cv2.resize(full, (columns, rows), interpolation=cv2.INTER_LINEAR)
            level = cv2.copyMakeBorder(level, 0, 0, 0, max(0, _WINDOW[1] - columns), cv2.BORDER_REPLICATE)
            corners, distances = self._hog.detect(level, self._confidence, self._stride, (0, 0))
            x, y = np.reshape(corners, (-1, 2)).T
            core = np.stack([y + _MARGINS[0], y + _WINDOW[0] - _MARGINS[0],
                             x + _MARGINS[1], x + _WINDOW[1] - _MARGINS[1]], axis=1)
            boxes.append(core * (image.shape[0] / rows))
            scores.append(np.ravel(distances))
        return suppress(np.concatenate(boxes), np.concatenate(scores), self._nms)


class DarknetDetector:
    """A YOLO network in Darknet's format (the YOLOv3 and YOLOv4 families), run by OpenCV on the CPU.

    Args:
        cfg, weights: the network's two files. With one class that class is the person.
        confidence: lowest probability that counts; OpenCV itself drops what is below 0.2.
        nms: largest intersection over union of two boxes that are both kept.
        input_size: `(height, width)` of the network's input, multiples of 32. Images are resized to fit it, their
            aspect ratio kept.

    Raises:
        InputError: a file is missing or broken, or the weights belong to another network.
    """

    def __init__(self, cfg: Path, weights: Path, confidence: float = 0.3, nms: float = 0.45,
                 input_size: tuple[int, int] = (256, 128)):
        if min(input_size) < 32 or input_size[0] % 32 or input_size[1] % 32:
            raise InputError(f"detector input size {input_size[0]}x{input_size[1]}: Darknet networks need "
                             "multiples of 32")
        self._cfg, self._weights = cfg, weights
        self._confidence, self._nms, self._size = confidence, nms, input_size
        self._of_thread = threading.local()  # OpenCV's networks keep state and must not be shared
        self._of_thread.network = _read_darknet(cfg, weights)
        classes = self._predict([np.zeros((*input_size, 3), np.uint8)]).shape[-1] - 5
        if classes not in _PERSON_CLASS:
            raise InputError(f"{cfg}: a network of {classes} classes, and which of them is the person is known only "
                             "for 1 class, 20 (PASCAL VOC) and 80 (COCO); use one of those")
        self._person = 5 + _PERSON_CLASS[classes]

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of each image (uint8 `[h, w, 3]`, RGB)."""
        return list(self._detect_all(images))

    def _detect_all(self, images: Sequence[np.ndarray]) -> Iterator[Detections]:
        for start in range(0, len(images), _BATCH):
            batch = images[start:start + _BATCH]
            canvases, scales = zip(*(_letterbox(image, self._size) for image in batch), strict=True)
            for rows, scale in zip(self._predict(canvases), scales, strict=True):
                rows = rows[rows[:, self._person] >= self._confidence]
                x, y, width, height = rows[:, :4].T * np.array([self._size[1], self._size[0]] * 2)[:, None] / scale
                boxes = np.stack([y - height / 2, y + height / 2, x - width / 2, x + width / 2], axis=1)
                yield suppress(boxes, rows[:, self._person], self._nms)

    def _predict(self, canvases: Sequence[np.ndarray]) -> np.ndarray:
        """Runs the network: `[B, candidates, 5 + classes]` with centre, size (fractions), objectness, classes."""
        if not hasattr(self._of_thread, "network"):
            self._of_thread.network = _read_darknet(self._cfg, self._weights)
        network = self._of_thread.network
        network.setInput(cv2.dnn.blobFromImages(canvases, 1 / 255))
        outputs = network.forward(network.getUnconnectedOutLayersNames())
        return np.concatenate([out.reshape(len(canvases), -1, out.shape[-1]) for out in outputs], axis=1)


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> Detections:
    """Greedy non-maximum suppression of boxes `[n, 4]`; the order of the candidates does not matter."""
    order = np.lexsort((*boxes.T, -scores))
    boxes, scores = boxes[order], scores[order]
    as_opencv = np.stack([boxes[:, 2], boxes[:, 0], boxes[:, 3] - boxes[:, 2], boxes[:, 1] - boxes[:, 0]], axis=1)
    ranks = range(len(order), 0, -1)  # OpenCV takes no negative scores, which an SVM gives
    kept = cv2.dnn.NMSBoxes(as_opencv.tolist(), list(ranks), 0.0, overlap)
    kept = np.asarray(kept, np.int64).reshape(-1)
    return Detections(boxes[kept].astype(np.float32), scores[kept].astype(np.float32))


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _letterbox(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Fits an image into the upper left corner of a grey canvas; returns the canvas and the scale."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    rows, columns = (max(1, round(length * scale)) for length in image.shape[:2])
    canvas = np.full((*size, 3), _LETTERBOX_GREY, np.uint8)
    canvas[:rows, :columns] = _resize(image, (rows, columns))
    return canvas, scale


def _read_darknet(cfg: Path, weights: Path) -> cv2.dnn.Net:
    for path in (cfg, weights):
        if not path.is_file():
            raise InputError(f"{path}: no such file; give the network as darknet:<cfg>,<weights>")
    try:
        network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    except cv2.error as error:
        raise InputError(f"{cfg}, {weights}: OpenCV cannot read this Darknet network ({error.err}); check that "
                         "the .cfg is complete and belongs to the .weights") from error
    layers = [network.getLayer(name) for name in network.getLayerNames()]
    if not any(layer.type == "Region" for layer in layers):
        raise InputError(f"{cfg}: no [yolo] or [region] layer, so not a detector; give a YOLO network")
    # OpenCV reads past the end of a short file without a word, and then every box is NaN.
    parameters = sum(blob.size for layer in layers if layer.type != "Region" for blob in layer.blobs)
    header = _header_bytes(weights)
    found, expected = weights.stat().st_size, header + 4 * parameters
    if found != expected:
        raise InputError(f"{weights}: {found} bytes, but {cfg} asks for {expected}; the file is truncated or belongs "
                         "to another network: fetch it again or give its own .cfg")
    return network


def _header_bytes(weights: Path) -> int:
    """Darknet's header: three int32 (version major, minor, revision), then a counter of 4 or, since 0.2, 8 bytes."""
    with weights.open("rb") as file:
        major, minor = np.frombuffer(file.read(8).ljust(8, b"\0"), "<i4")
    return 20 if major * 10 + minor >= 2 else 16
