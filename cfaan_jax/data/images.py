"""Image files to pixels, in one way for records and for image files of users."""

import io

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:  # not built for every platform; OpenCV gives the same pixels, but takes half as long again
    simplejpeg = None

MAX_PIXELS = 1 << 26  # a small file can claim any size; no crop of a person has a tenth of this
_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
_JPEG_SEGMENTS = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # segments that may precede the frame header
_JPEG_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def size_of(file: bytes) -> tuple[int, int]:
    """Height and width that an image file's header claims; ValueError for no image, or more than `MAX_PIXELS`."""
    height, width = _jpeg_size(file) or _pillow_size(file)
    if width * height > MAX_PIXELS:
        raise ValueError(f"an image that claims {height:,} x {width:,} pixels, more than {MAX_PIXELS:,}")
    return height, width


def _jpeg_size(file: bytes) -> tuple[int, int] | None:
    """The size of a common JPEG file, else None. It takes a tenth of Pillow's time, and each frame needs it."""
    start = 2
    while file.startswith(_JPEG_START) and start + 9 <= len(file) and file[start] == 0xFF:
        marker, length = file[start + 1], int.from_bytes(file[start + 2:start + 4])
        if marker in _JPEG_FRAME_HEADERS:
            return int.from_bytes(file[start + 5:start + 7]), int.from_bytes(file[start + 7:start + 9])
        if marker not in _JPEG_SEGMENTS:
            return None
        start += 2 + length
    return None


def _pillow_size(file: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(file)) as image:
            return image.size[::-1]
    except UnidentifiedImageError:  # its message is an address in memory
        raise ValueError("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"an image that claims more than {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError) as error:  # some formats raise these
        raise ValueError(str(error)) from None


def decode(file: bytes) -> np.ndarray | None:
    """An image file as uint8 `[h, w, 3]`, RGB, never rotated; None if `size_of` or OpenCV refuses it, or it is cut."""
    try:
        shape = (*size_of(file), 3)
    except ValueError:
        return None
    if file.startswith(_JPEG_START):
        # OpenCV fills the missing part of a JPEG file that is cut short with grey.
        if not file.endswith(_JPEG_END) and file.find(_JPEG_END, file.rfind(_JPEG_SCAN)) < 0:
            return None
        image = _decode_jpeg(file, shape)
        if image is not None:
            return image
    try:
        return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _decode_jpeg(file: bytes, shape: tuple[int, int, int]) -> np.ndarray | None:
    """As `decode`, in two thirds of OpenCV's time; None for a JPEG file that simplejpeg refuses."""
    if simplejpeg is None:
        return None
    try:
        image = simplejpeg.decode_jpeg(file, "RGB", buffer=np.empty(shape, np.uint8))
    except ValueError:  # damaged, larger than its header claims, or of four colours
        return None
    return image if image.shape == shape else None
