"""What all detectors share: the form of their results, non-maximum suppression, and fitting images to networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from cfaan_jax.errors import InputError

# Index of "person" by the number of classes: a network for persons alone, PASCAL VOC, COCO.
PERSON_CLASS = {1: 0, 20: 14, 80: 0}


@dataclass(frozen=True)
class Detections:
    """The persons in one image, best first: `boxes` float32 `[n, 4]` in pixels, `scores` float32 `[n]`."""

    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """Detects the persons in images.

    Attributes:
        device: name of the device that it computes on.
    """

    device: str

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of every image (uint8 `[h, w, 3]`, RGB), in the order of the images."""


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> Detections:
    """Greedy non-maximum suppression of boxes `[n, 4]`; the order of the candidates does not matter."""
    order = np.lexsort((*boxes.T, -scores))
    boxes, scores = boxes[order], scores[order]
    as_opencv = np.stack([boxes[:, 2], boxes[:, 0], boxes[:, 3] - boxes[:, 2], boxes[:, 1] - boxes[:, 0]], axis=1)
    ranks = range(len(order), 0, -1)  # OpenCV takes no negative scores, which an SVM gives
    best = np.asarray(cv2.dnn.NMSBoxes(as_opencv.tolist(), list(ranks), 0.0, overlap), np.int64).reshape(-1)
    return Detections(boxes[best].astype(np.float32), scores[best].astype(np.float32))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes to `(height, width)`."""
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def check_input_size(size: tuple[int, int]) -> None:
    """Raises InputError for a `(height, width)` that YOLO networks, whose largest stride is 32, cannot take."""
    if min(size) < 32 or size[0] % 32 or size[1] % 32:
        raise InputError(f"detector input size {size[0]}x{size[1]}: YOLO networks need multiples of 32")


def letterbox(image: np.ndarray, size: tuple[int, int], grey: int) -> tuple[np.ndarray, float]:
    """Fits an image into the upper left corner of a grey canvas; returns the canvas and the scale."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    rows, columns = (max(1, round(length * scale)) for length in image.shape[:2])
    canvas = np.full((*size, 3), grey, np.uint8)
    canvas[:rows, :columns] = resize(image, (rows, columns))
    return canvas, scale
