"""OpenCV's people detector; it needs no file."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from cfaan_jax.errors import InputError
from data_prep.redetect_link.detectors.boxes import Detections, resize, suppress

# Rows and columns of OpenCV's HOG window, and the margins around the person in it. The SVM was trained with margins of
# 16 pixels; two fewer at the sides keep arms and legs in the picture.
_WINDOW, _MARGINS = (128, 64), (16, 14)
_SCALE_STEP = 1.05


class HogDetector:
    """OpenCV's people detector: histograms of oriented gradients and a linear SVM (Dalal and Triggs, CVPR 2005).

    The SVM classifies windows of 128 x 64 pixels with a person of about 96 x 36 in their core. Images are scaled to a
    height at which a person has at least that size, and a window is shrunk to its core. A tight crop needs a border,
    which the alignment adds.

    Args:
        confidence, nms: see `detectors.create`; `nms` is low, because the SVM responds at several scales.
        input_size: `(height, width)`; images are scaled to this height, the width follows. The default halves a crop of
            256 rows with its border of 48 pixels. There is a window every 4 pixels up to 256 rows, else every 8.
    """

    device = "CPU"

    def __init__(self, confidence: float = 0.3, nms: float = 0.3, input_size: tuple[int, int] = (176, 112)):
        self._confidence, self._nms, self._rows = confidence, nms, input_size[0]
        if self._rows < _WINDOW[0]:
            raise InputError(f"detector input size {input_size[0]}x{input_size[1]}: HOG needs at least "
                             f"{_WINDOW[0]} rows")
        self._stride = (4, 4) if self._rows <= 2 * _WINDOW[0] else (8, 8)
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of every image (uint8 `[h, w, 3]`, RGB)."""
        with ThreadPoolExecutor(cv2.getNumThreads()) as pool:
            return list(pool.map(self._detect_one, images))

    def _detect_one(self, image: np.ndarray) -> Detections:
        full = resize(image, (self._rows, max(1, round(image.shape[1] * self._rows / image.shape[0]))))
        boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
        # Level by level: the threads of OpenCV's detectMultiScale mix up the scores of boxes.
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
