"""Image files to pixels, in one way for records and for images from elsewhere."""

import cv2
import numpy as np


def decoded(file: bytes) -> np.ndarray | None:
    """The content of an image file as uint8 `[h, w, 3]`, RGB, not turned as its metadata say; None if it is none.

    A JPEG whose end is missing is none either.
    """
    if not file or _is_cut(file):
        return None
    try:
        return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # it claims to be larger than OpenCV takes
        return None


def _is_cut(file: bytes) -> bool:
    """Whether a JPEG has no mark of its end behind its last scan; OpenCV decodes zeros in its place as a picture."""
    return (file.startswith(b"\xff\xd8") and not file.endswith(b"\xff\xd9")
            and file.find(b"\xff\xd9", file.rfind(b"\xff\xda")) < 0)
