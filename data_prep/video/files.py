"""Finds video files and reads their frames by OpenCV."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.errors import InputError, shortened

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")


def find_videos(root: Path) -> list[Path]:
    """Returns a video file, the video files in a folder, or several files joined by `os.pathsep`, in this order."""
    if root.is_file():
        return [root]
    if os.pathsep in str(root):
        files = [Path(name) for name in str(root).split(os.pathsep)]
        if missing := [path for path in files if not path.is_file()]:
            raise InputError(f"{root}: no video '{missing[0]}'; join the names of video files by '{os.pathsep}'")
        return files
    files = sorted(path for path in root.glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{root}: holds no video; name a video file or a folder with {shortened(SUFFIXES)}")
    return files


def open_video(path: Path) -> cv2.VideoCapture:
    """Opens a video; InputError for a file that OpenCV cannot read."""
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path}: OpenCV cannot read this video; convert it, for example to MP4 with H.264")
    return capture


def read_frames(path: Path, stride: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields every `stride`-th frame with its number: uint8 `[h, w, 3]`, RGB.

    Raises:
        InputError: a frame cannot be decoded, or more than a tenth of the frames is missing.
    """
    capture = open_video(path)
    number = 0
    while capture.grab():
        if number % stride == 0:
            decoded, frame = capture.retrieve()
            if not decoded:
                raise InputError(f"{path}: frame {number} cannot be decoded; convert the video again")
            yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        number += 1
    expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))  # for some containers an estimate
    if number == 0 or number < 0.9 * expected:
        raise InputError(f"{path}: the video ends after {number} of {expected} frames; fetch the file again, or "
                         "convert its frames to a new file")
