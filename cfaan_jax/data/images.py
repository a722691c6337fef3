"""Image files to pixels, in one way for records and for images from elsewhere."""

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:  # left out where there is no package for the machine: OpenCV gives the same pixels, only later
    simplejpeg = None

LARGEST = 1 << 26  # pixels: no frame of a person has a tenth of them, and a small file can claim any number
_JPEG_SEGMENTS = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # what stands before the header of the frame
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def size_of(file: bytes) -> tuple[int, int]:
    """Height and width that an image file claims to have; it is not decoded.

    Raises:
        ValueError: it is no image, or claims more than `LARGEST` pixels.
    """
    height, width = _jpeg_size(file) or _any_size(file)
    if width * height > LARGEST:
        raise ValueError(f"an image that claims {height:,} x {width:,} pixels, more than {LARGEST:,}")
    return height, width


def _jpeg_size(file: bytes) -> tuple[int, int] | None:
    """As `_any_size` for a usual JPEG file, else None: a tenth of the time, which counts for every frame decoded."""
    place = 2
    while file[:2] == b"\xff\xd8" and place + 9 <= len(file) and file[place] == 0xFF:
        kind, length = file[place + 1], int.from_bytes(file[place + 2:place + 4])
        if kind in _JPEG_FRAMES:
            return int.from_bytes(file[place + 5:place + 7]), int.from_bytes(file[place + 7:place + 9])
        if kind not in _JPEG_SEGMENTS:
            return None
        place += 2 + length
    return None


def _any_size(file: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(file)) as image:
            return image.size[::-1]
    except UnidentifiedImageError:  # its text says where in memory the file lies
        raise ValueError("not an image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"an image that claims more than {LARGEST:,} pixels") from None
    except (OSError, SyntaxError) as error:  # of some formats
        raise ValueError(str(error)) from None


def decoded(file: bytes) -> np.ndarray | None:
    """The content of an image file as uint8 `[h, w, 3]`, RGB, not turned as its metadata say.

    None where `size_of` finds no image, where OpenCV decodes none, and for a JPEG whose end is missing.
    """
    try:
        pixels = np.empty((*size_of(file), 3), np.uint8)
    except ValueError:
        return None
    return pixels if all(_quickly_into([pixels], [file])) else _by_opencv(file)


def decode_into(pixels: Sequence[np.ndarray], files: Sequence[bytes]) -> list[int]:
    """As `decoded`, many files, each into given pixels, uint8 `[h, w, 3]` side by side in memory.

    Returns:
        The numbers of those for which `decoded` gives None or an image of another size; their pixels have any content.
    """
    quickly = _quickly_into(pixels, files)
    return [n for n, (target, file) in enumerate(zip(pixels, files, strict=True))
            if not quickly[n] and not _slowly_into(target, file)]


def _quickly_into(pixels: Sequence[np.ndarray], files: Sequence[bytes]) -> list[bool]:
    """Which are sound JPEGs of that size; these are decoded, in two thirds of OpenCV's time and to the same pixels."""
    if simplejpeg is None:
        return [False] * len(files)
    sound = [file.startswith(b"\xff\xd8") and not _is_cut(file) for file in files]
    found = []
    for target, file, is_sound in zip(pixels, files, sound, strict=True):  # little else: other threads wait meanwhile
        try:
            found.append(simplejpeg.decode_jpeg(file, "RGB", buffer=target).shape if is_sound else None)
        except ValueError:  # damaged, larger than pixels, or of a kind that it does not know
            found.append(None)
    return [shape == target.shape for shape, target in zip(found, pixels, strict=True)]


def _slowly_into(pixels: np.ndarray, file: bytes) -> bool:
    image = _by_opencv(file)
    if image is None or image.shape != pixels.shape:
        return False
    pixels[...] = image
    return True


def _by_opencv(file: bytes) -> np.ndarray | None:
    if _is_cut(file):
        return None
    try:
        size_of(file)
        return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except (ValueError, cv2.error):
        return None


def _is_cut(file: bytes) -> bool:
    """Whether a JPEG has no mark of its end behind its last scan; OpenCV decodes zeros in its place as a picture."""
    return (file.startswith(b"\xff\xd8") and not file.endswith(b"\xff\xd9")
            and file.find(b"\xff\xd9", file.rfind(b"\xff\xda")) < 0)
