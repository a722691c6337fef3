"""Image files to pixels, with simplejpeg and where it is missing."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from cfaan_jax.data import images
from tests import tiny_records

SIZE = (61, 35)  # no multiple of a block


@pytest.fixture(params=["simplejpeg", "OpenCV alone"])
def decoder(request, monkeypatch):
    """By either way a file gives the same."""
    if request.param == "OpenCV alone":
        monkeypatch.setattr(images, "simplejpeg", None)
    return request.param


def jpeg(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = SIZE, **settings) -> bytes:
    rough = np.random.default_rng(seed).integers(0, 256, (9, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(rough).resize(size[::-1]).convert(mode).save(file, "JPEG", **settings)
    return file.getvalue()


def by_pillow(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("settings", [{"quality": 5}, {"quality": 100, "subsampling": 0}, {"subsampling": 1},
                                      {"subsampling": 2, "progressive": True}, {"restart_marker_blocks": 2}])
def test_jpeg_files_give_the_pixels_that_pillow_reads(decoder, mode, settings):
    file, pixels = jpeg(mode=mode, **settings), np.empty((*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(images.decoded(file), by_pillow(file))
    assert images.decode_into([pixels], [file]) == []
    np.testing.assert_array_equal(pixels, by_pillow(file))


def test_what_simplejpeg_does_not_know_is_left_to_opencv():
    """No JPEG, and one of four colours."""
    for file in (cv2.imencode(".png", by_pillow(jpeg()))[1].tobytes(), jpeg(mode="CMYK", subsampling=2)):
        pixels = np.empty((*SIZE, 3), np.uint8)
        assert images.decode_into([pixels], [file]) == []
        np.testing.assert_array_equal(pixels[..., ::-1], cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR))
        np.testing.assert_array_equal(pixels, images.decoded(file))


@pytest.mark.skipif(images.simplejpeg is None, reason="simplejpeg is not installed")
def test_usual_jpeg_files_do_not_wait_for_opencv(monkeypatch):
    monkeypatch.setattr(images.cv2, "imdecode", None)
    np.testing.assert_array_equal(images.decoded(jpeg()), by_pillow(jpeg()))
    assert images.decode_into([np.empty((*SIZE, 3), np.uint8)], [jpeg()]) == []


@pytest.mark.parametrize("size", [(61, 34), (60, 35), (62, 35), (35, 61), (122, 70), (1, 1)])
def test_pixels_of_another_size_are_refused(decoder, size):
    assert images.decode_into([np.empty((*size, 3), np.uint8)], [jpeg()]) == [0]


def test_of_many_files_those_that_are_not_decoded_are_named(decoder):
    png = cv2.imencode(".png", by_pillow(jpeg(3)))[1].tobytes()
    files = [jpeg(0), jpeg(1)[:-9], jpeg(2, size=(60, 35)), png, b"", jpeg(4)]
    pixels = np.zeros((len(files), *SIZE, 3), np.uint8)
    assert images.decode_into(list(pixels), files) == [1, 2, 4]
    for n in (0, 3, 5):
        np.testing.assert_array_equal(pixels[n], images.decoded(files[n]))


def test_a_jpeg_is_not_turned_as_its_metadata_say(decoder):
    turned = Image.Exif()
    turned[0x0112] = 6
    np.testing.assert_array_equal(images.decoded(jpeg(exif=turned)), by_pillow(jpeg()))


def test_damaged_files_give_the_same_by_either_way(monkeypatch):
    rng, whole, damaged, found = np.random.default_rng(0), jpeg(), [], []
    for _ in range(300):
        file = np.frombuffer(whole, np.uint8).copy()
        file[rng.integers(2, len(file), 2)] = rng.integers(0, 256, 2)
        damaged.append(file.tobytes())
    for _ in range(2):
        found.append([(images.decoded(file), _into(file)) for file in damaged])
        monkeypatch.setattr(images, "simplejpeg", None)
    for (image, pixels), (expected, alone) in zip(*found, strict=True):
        np.testing.assert_equal((image, pixels), (expected, alone))
    read = [image is not None for image, _ in found[0]]
    assert any(read) and not all(read)


def _into(file: bytes) -> np.ndarray | None:
    pixels = np.empty((*SIZE, 3), np.uint8)
    return None if images.decode_into([pixels], [file]) else pixels


def test_a_jpeg_whose_end_is_lost_is_none(decoder):
    whole = tiny_records.frame(np.random.default_rng(0), 1)
    np.testing.assert_array_equal(images.decoded(whole + b"trailing"), by_pillow(whole))
    for kept in range(2, len(whole) - 1, 7):
        for lost in (whole[:kept], whole[:kept] + bytes(len(whole) - kept), whole + jpeg()[:-2]):
            assert images.decoded(lost) is None, kept
            assert images.decode_into([np.empty_like(by_pillow(whole))], [lost]) == [0], kept


def test_what_is_no_image_is_none(decoder):
    for file in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"no picture"):
        assert images.decoded(file) is None
        assert images.decode_into([np.empty((*SIZE, 3), np.uint8)], [file]) == [0]
