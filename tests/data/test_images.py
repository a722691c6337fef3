"""Image files to pixels, with simplejpeg and where it is missing."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from cfaan_jax.data import images
from tests import tiny_records
from tests.data.test_loader import by_pillow

SIZE = (61, 35)  # no multiple of a block


@pytest.fixture(params=["simplejpeg", "OpenCV alone"])
def decoder(request, monkeypatch):
    """Both give the same pixels."""
    if request.param == "OpenCV alone":
        monkeypatch.setattr(images, "simplejpeg", None)
    return request.param


def jpeg(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = SIZE, **settings) -> bytes:
    rough = np.random.default_rng(seed).integers(0, 256, (9, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(rough).resize(size[::-1]).convert(mode).save(file, "JPEG", **settings)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("settings", [{"quality": 5}, {"quality": 100, "subsampling": 0}, {"subsampling": 1},
                                      {"subsampling": 2, "progressive": True}, {"restart_marker_blocks": 2}])
def test_jpeg_files_give_the_pixels_that_pillow_reads(decoder, mode, settings):
    file = jpeg(mode=mode, **settings)
    np.testing.assert_array_equal(images.decode(file), by_pillow(file))


def test_files_that_simplejpeg_refuses_are_left_to_opencv():
    """A PNG file, and a JPEG file of four colours."""
    for file in (cv2.imencode(".png", by_pillow(jpeg()))[1].tobytes(), jpeg(mode="CMYK", subsampling=2)):
        expected = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(images.decode(file)[..., ::-1], expected)


@pytest.mark.skipif(images.simplejpeg is None, reason="simplejpeg is not installed")
def test_usual_jpeg_files_do_not_wait_for_opencv(monkeypatch):
    monkeypatch.setattr(images.cv2, "imdecode", None)
    np.testing.assert_array_equal(images.decode(jpeg()), by_pillow(jpeg()))


def test_the_orientation_in_metadata_is_ignored(decoder):
    turned = Image.Exif()
    turned[0x0112] = 6
    np.testing.assert_array_equal(images.decode(jpeg(exif=turned)), by_pillow(jpeg()))


def test_damaged_files_give_the_same_with_and_without_simplejpeg(monkeypatch):
    rng, whole, damaged = np.random.default_rng(0), jpeg(), []
    for _ in range(300):
        file = np.frombuffer(whole, np.uint8).copy()
        file[rng.integers(2, len(file), 2)] = rng.integers(0, 256, 2)
        damaged.append(file.tobytes())
    decoded = [images.decode(file) for file in damaged]
    monkeypatch.setattr(images, "simplejpeg", None)
    for file, image in zip(damaged, decoded, strict=True):
        np.testing.assert_equal(image, images.decode(file))
    readable = [image is not None for image in decoded]
    assert any(readable) and not all(readable)


def test_a_jpeg_file_that_is_cut_short_is_refused(decoder):
    whole = tiny_records.frame(np.random.default_rng(0), 1)
    np.testing.assert_array_equal(images.decode(whole + b"trailing"), by_pillow(whole))
    for length in range(2, len(whole) - 1, 7):
        for cut in (whole[:length], whole[:length] + bytes(len(whole) - length), whole + jpeg()[:-2]):
            assert images.decode(cut) is None, length


def test_other_bytes_are_refused(decoder):
    for file in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"no picture"):
        assert images.decode(file) is None
