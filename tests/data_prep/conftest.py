"""The data set of the tests of whole builds."""

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """Ten tracklets of three frames in the layout of DukeMTMC-VideoReID."""
    root, number = tmp_path_factory.mktemp("duke"), 0
    for split, pid in (("train", 1), ("train", 2), ("query", 3), ("gallery", 3), ("gallery", 4)):
        for camera in (1, 2):
            folder = root / split / f"{pid:04d}" / f"{2 * pid + camera:04d}"
            folder.mkdir(parents=True)
            for frame in (1, 2, 3):
                number += 1
                assert cv2.imwrite(f"{folder}/{pid:04}_C{camera}_F{frame:04}_X{number:05}.jpg", picture(number))
    return root


def picture(seed: int) -> np.ndarray:
    """A bright body on noise for HOG."""
    image = np.random.default_rng(seed).integers(0, 120, (96, 48, 3), np.uint8)
    cv2.ellipse(image, (24, 16), (6, 9), 0, 0, 360, (210, 200, 190), -1)
    cv2.rectangle(image, (14, 26), (34, 56), (60 + seed % 190, 220, 30), -1)
    cv2.rectangle(image, (16, 56), (32, 92), (200, 40, 60), -1)
    return image
