"""Detectors: HOG on a drawn person, Darknet networks with weights written here, non-maximum suppression, errors."""

import re
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.redetect_link import detectors
from tests.data_prep.checks import check_refused

# One convolution with stride 32, then a YOLO layer with one anchor of 20 x 40 pixels: a box per cell of 32 pixels.
CFG = """
[net]
width=64
height=64
channels=3

[convolutional]
filters={filters}
size=1
stride=32
pad=0
activation=linear

[yolo]
mask=0
anchors=20,40
classes={classes}
num=1
"""
BLACK = np.zeros((64, 64, 3), np.uint8)


def write_network(folder, classes=1, name="net", bias=None, kernel=None):
    """Writes a network whose answer is `bias` in every cell, plus `kernel` times the colour of one pixel of it."""
    filters = 5 + classes
    bias = np.zeros(filters) if bias is None else bias
    kernel = np.zeros((filters, 3)) if kernel is None else kernel
    (folder / f"{name}.cfg").write_text(CFG.format(filters=filters, classes=classes))
    header = np.array([0, 2, 5], "<i4").tobytes() + np.array([0], "<i8").tobytes()
    (folder / f"{name}.weights").write_bytes(header + np.concatenate([bias, kernel.ravel()]).astype("<f4").tobytes())
    return f"darknet:{folder / name}.cfg,{folder / name}.weights"


def detect(spec, image=BLACK, input_size=(64, 64), **options):
    return detectors.create(spec, input_size=input_size, **options).detect([image])[0]


def sure(classes=1, person=0, score=20.0):
    """Biases for a box of the anchor's size in the middle of the cell, certain to be this class."""
    bias = np.full(5 + classes, -20.0)
    bias[:4], bias[4], bias[5 + person] = 0, 20, score
    return bias


def person(height=256, width=128, shift=0):
    """A pedestrian seen from the front, drawn with polygons, and the box around it."""
    image = np.full((height, width, 3), 150, np.uint8)
    x, unit = width // 2 + shift, height / 256
    at = lambda *points: np.array([(x + dx * unit, y * unit) for dx, y in points], np.int32)  # noqa: E731
    cv2.circle(image, (x, int(40 * unit)), int(15 * unit), (190, 150, 120), -1, cv2.LINE_AA)
    cv2.fillPoly(image, [at((-26, 62), (26, 62), (30, 130), (22, 132), (20, 140), (-20, 140), (-22, 132), (-30, 130))],
                 (60, 40, 40), cv2.LINE_AA)
    cv2.fillPoly(image, [at((-20, 138), (0, 138), (-2, 235), (-18, 235)), at((0, 138), (20, 138), (18, 235), (2, 235))],
                 (30, 30, 70), cv2.LINE_AA)
    return cv2.GaussianBlur(image, (5, 5), 0), (25 * unit, 235 * unit, x - 30 * unit, x + 30 * unit)


def padded(image, border=48):
    return cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REPLICATE)


def overlap(a, b):
    rows, columns = min(a[1], b[1]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[2], b[2])
    common = max(rows, 0) * max(columns, 0)
    return common / ((a[1] - a[0]) * (a[3] - a[2]) + (b[1] - b[0]) * (b[3] - b[2]) - common)


def test_hog_finds_a_drawn_person_and_nobody_on_an_empty_crop():
    image, box = person()
    detections, nobody = detectors.create("hog").detect([padded(image), padded(np.full((256, 128, 3), 150, np.uint8))])
    assert overlap(detections.boxes[0] - 48, box) > 0.6
    assert detections.boxes.dtype == detections.scores.dtype == np.float32 and detections.scores[0] >= 0.6
    assert nobody.boxes.shape == (0, 4) and len(nobody) == 0
    assert len(detect("hog", padded(image), None, confidence=float(detections.scores[0]) + 0.1)) == 0


def test_hog_sees_a_crop_of_any_resolution_alike():
    boxes = []
    for height, width in ((256, 128), (512, 256), (128, 64)):
        image, _ = person(height, width)
        boxes.append(detect("hog", padded(image, 48 * height // 256), None).boxes[0] / height)
    np.testing.assert_allclose(boxes, boxes[:1] * 3, atol=0.05)


def test_hog_finds_everybody_in_a_full_frame():
    image = np.full((360, 640, 3), 150, np.uint8)
    corners = [(40, 60), (60, 260), (90, 480)]
    for top, left in corners:
        image[top:top + 200, left:left + 100] = person(200, 100)[0]
    detections = detect("hog", image, (360, 640), confidence=1.0)
    _, (y0, y1, x0, x1) = person(200, 100)
    for top, left in corners:
        assert max(overlap(box, (y0 + top, y1 + top, x0 + left, x1 + left)) for box in detections.boxes) > 0.5


@pytest.mark.parametrize("shape", [(256, 1), (3, 300), (1, 1)])
def test_hog_accepts_any_shape(shape):
    assert len(detectors.create("hog").detect([np.zeros((*shape, 3), np.uint8)])) == 1


def test_hog_needs_the_height_of_its_window():
    assert len(detectors.create("hog", input_size=(128, 64)).detect([padded(person()[0])])) == 1
    check_refused("at least 128 rows", detectors.create, "hog", input_size=(127, 64))


@pytest.mark.parametrize("shape, scale, options", [((64, 64), 1, {}), ((256, 128), 4, {"nms": 1.0})])
def test_darknet_boxes_are_where_the_network_says_in_pixels_of_the_image(tmp_path, shape, scale, options):
    """An image of 256 x 128 is shrunk to 64 x 32, and the rest is grey."""
    detections = detect(write_network(tmp_path, bias=sure()), np.zeros((*shape, 3), np.uint8), **options)
    # the anchor, 20 wide and 40 high, in the middle of the four cells of 32 pixels
    expected = np.array([(16 - 20, 16 + 20, 6, 26), (16 - 20, 16 + 20, 38, 58), (28, 68, 6, 26), (28, 68, 38, 58)])
    np.testing.assert_allclose(sorted(map(tuple, detections.boxes)), expected * scale, atol=1e-3)
    np.testing.assert_allclose(detections.scores, 1, atol=1e-5)
    assert detections.boxes.dtype == detections.scores.dtype == np.float32


def test_darknet_sees_red_as_the_first_channel(tmp_path):
    kernel = np.zeros((6, 3))
    kernel[5, 0] = 40  # certain where it is red
    image = BLACK.copy()
    image[32:, 32:] = 255, 0, 0
    image[:32, 32:] = 0, 0, 255
    detections = detect(write_network(tmp_path, bias=sure(score=-20), kernel=kernel), image)
    np.testing.assert_allclose(detections.boxes, [(28, 68, 38, 58)], atol=1e-3)


@pytest.mark.parametrize("classes, index", [(1, 0), (80, 0), (20, 14)])
def test_darknet_reports_persons_only(tmp_path, classes, index):
    assert len(detect(write_network(tmp_path, classes, "yes", sure(classes, index)))) == 4
    if classes > 1:
        assert len(detect(write_network(tmp_path, classes, "no", sure(classes, index + 1)))) == 0


@pytest.mark.parametrize("options, count", [
    ({"confidence": 0.59}, 4), ({"confidence": 0.61}, 0),
    ({"nms": 0.12}, 4), ({"nms": 0.10}, 2)])  # one box and the next below it overlap by 8 of 72 rows
def test_darknet_confidence_and_suppression_are_settings(tmp_path, options, count):
    bias = sure(score=np.log(0.6 / 0.4))  # a probability of 0.6
    assert len(detect(write_network(tmp_path, bias=bias), **options)) == count


def same(a, b):
    return all(np.array_equal(x.boxes, y.boxes) and np.array_equal(x.scores, y.scores)
               for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind, confidence", [("hog", 0.0), ("darknet", 0.25)])
def test_answers_do_not_depend_on_batches_or_threads(tmp_path, kind, confidence):
    rng = np.random.default_rng(0)
    network = write_network(tmp_path, bias=rng.normal(size=6), kernel=rng.normal(size=(6, 3)) * 3)
    detector = detectors.create("hog" if kind == "hog" else network, confidence=confidence)
    images = [np.clip(padded(person(shift=k - 5)[0]) + rng.normal(0, 12, (352, 224, 3)), 0, 255).astype(np.uint8)
              for k in range(11)]
    together = detector.detect(images)
    assert sum(map(len, together)) >= 11 and detector.detect([]) == []
    assert same(together, [detector.detect([image])[0] for image in images])
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(detector.detect, [images] * 8):
            assert same(together, answer)


@pytest.mark.parametrize("spec", ["", "yolo", "hog:x", "darknet", "darknet:a.cfg", "darknet:,b.weights"])
def test_unknown_detectors_name_the_known_ones(spec):
    check_refused("darknet:<cfg>,<weights>", detectors.create, spec)


@pytest.mark.parametrize("name, change, message", [
    ("net.cfg", None, ": no such file"), ("net.weights", None, ": no such file"),
    ("net.cfg", lambda data: b"hello\n", ".*cannot read"),
    ("net.cfg", lambda data: data.partition(b"[yolo]")[0], r": has no \[yolo\]"),
    ("net.weights", lambda data: data[:-4], ".*truncated or belongs to another network"),
    ("net.weights", lambda data: data + b"0000", ".*truncated or belongs to another network"),
    ("net.weights", lambda data: data[:30], ".*truncated or belongs to another network"),
    ("net.weights", lambda data: b"", "")])
def test_files_that_are_missing_or_of_another_network_are_refused(tmp_path, name, change, message):
    spec, path = write_network(tmp_path), tmp_path / name
    if change:
        path.write_bytes(change(path.read_bytes()))
    else:
        path.unlink()
    check_refused(f"{re.escape(name)}{message}", detectors.create, spec)


def test_a_network_of_classes_without_a_known_person_is_refused(tmp_path):
    check_refused(r"net\.cfg: a network of 3 classes", detectors.create, write_network(tmp_path, classes=3))


@pytest.mark.parametrize("size", [(0, 64), (64, 100)])
def test_darknet_input_size_is_checked(tmp_path, size):
    check_refused("multiples of 32", detectors.create, write_network(tmp_path), input_size=size)


def test_suppression_keeps_the_best_of_boxes_that_overlap_by_more_than_the_threshold():
    boxes = np.array([(0, 10, 0, 10), (0, 10, 1, 11), (0, 10, 20, 30)], np.float32)
    best = detectors.suppress(boxes, np.array([-0.5, -0.2, -3.0], np.float32), 0.5)
    assert best.boxes.tolist() == [[0, 10, 1, 11], [0, 10, 20, 30]]
    np.testing.assert_array_equal(best.scores, np.array([-0.2, -3.0], np.float32))
    boxes = np.array([(0, 10, 0, 10), (0, 10, 5, 15)], np.float32)  # an intersection of 50 over a union of 150
    assert len(detectors.suppress(boxes, np.ones(2), 0.34)) == 2
    assert len(detectors.suppress(boxes, np.ones(2), 0.33)) == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 9)] * 2, st.integers(0, 2)), max_size=12),
       st.randoms(use_true_random=False))
def test_suppression_does_not_depend_on_the_order(rows, random):
    def run(rows):
        table = np.array(rows, np.float32).reshape(-1, 5)
        boxes = np.stack([table[:, 0], table[:, 0] + table[:, 2], table[:, 1], table[:, 1] + table[:, 3]], axis=1)
        return detectors.suppress(boxes, table[:, 4], 0.4)

    first = run(rows)
    assert same([first], [run(random.sample(rows, len(rows)))])
    assert (np.diff(first.scores) <= 0).all()
