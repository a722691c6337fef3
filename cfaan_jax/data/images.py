"""Image files to pixels, in one way for records and for images from elsewhere."""

import io

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

LARGEST = 1 << 26  # pixels: no frame of a person has a tenth of them, and a small file can claim any number


def size_of(file: bytes) -> tuple[int, int]:
    """Height and width that an image file claims to have; it is not decoded.

    Raises:
        ValueError: it is no image, or claims more than `LARGEST` pixels.
    """
    try:
        with Image.open(io.BytesIO(file)) as image:
            width, height = image.size
    except UnidentifiedImageError:  # its text says where in memory the file lies
        raise ValueError("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"an image that claims more than {LARGEST:,} pixels") from None
    except (OSError, SyntaxError) as error:  # of some formats
        raise ValueError(str(error)) from None
    if width * height > LARGEST:
        raise ValueError(f"an image that claims {height:,} x {width:,} pixels, more than {LARGEST:,}")
    return height, width


def decoded(file: bytes) -> np.ndarray | None:
    """The content of an image file as uint8 `[h, w, 3]`, RGB, not turned as its metadata say.

    None where `size_of` finds no image, and where OpenCV decodes none.
    """
    try:
        size_of(file)
        return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except (ValueError, cv2.error):
        return None
