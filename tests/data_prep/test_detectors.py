"""Detectors: HOG on a drawn person, Darknet networks with weights written here, non-maximum suppression, errors."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfaan_jax.errors import InputError
from data_prep.redetect_link import detectors

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


def write_network(folder, classes=1, name="net", bias=None, kernel=None, cfg=CFG):
    """Writes a network whose answer is `bias` in every cell, plus `kernel` times the colour of one pixel of it."""
    filters = 5 + classes
    bias = np.zeros(filters) if bias is None else bias
    kernel = np.zeros((filters, 3)) if kernel is None else kernel
    (folder / f"{name}.cfg").write_text(cfg.format(filters=filters, classes=classes))
    header = np.array([0, 2, 5], "<i4").tobytes() + np.array([0], "<i8").tobytes()
    (folder / f"{name}.weights").write_bytes(header + np.concatenate([bias, kernel.ravel()]).astype("<f4").tobytes())
    return f"darknet:{folder / name}.cfg,{folder / name}.weights"


def sure(classes=1, person=0):
    """Biases for a box of the anchor's size in the middle of the cell, certain to be this class."""
    bias = np.full(5 + classes, -20.0)
    bias[:4], bias[4], bias[5 + person] = 0, 20, 20
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


def test_hog_sees_a_crop_of_any_resolution_alike():
    boxes = []
    for height, width in ((256, 128), (512, 256), (128, 64)):
        image, _ = person(height, width)
        boxes.append(detectors.create("hog").detect([padded(image, 48 * height // 256)])[0].boxes[0] / height)
    np.testing.assert_allclose(boxes, boxes[:1] * 3, atol=0.05)


def test_hog_finds_everybody_in_a_full_frame():
    image = np.full((360, 640, 3), 150, np.uint8)
    corners = [(40, 60), (60, 260), (90, 480)]
    for top, left in corners:
        image[top:top + 200, left:left + 100] = person(200, 100)[0]
    detections = detectors.create("hog", input_size=(360, 640), confidence=1.0).detect([image])[0]
    _, (y0, y1, x0, x1) = person(200, 100)
    for top, left in corners:
        assert max(overlap(box, (y0 + top, y1 + top, x0 + left, x1 + left)) for box in detections.boxes) > 0.5


def test_hog_threshold_drops_what_is_below():
    image, _ = person()
    score = detectors.create("hog").detect([padded(image)])[0].scores[0]
    assert len(detectors.create("hog", confidence=float(score) + 0.1).detect([padded(image)])[0]) == 0


@pytest.mark.parametrize("shape", [(256, 1), (3, 300), (1, 1)])
def test_hog_accepts_any_shape(shape):
    assert len(detectors.create("hog").detect([np.zeros((*shape, 3), np.uint8)])) == 1


def test_hog_needs_the_height_of_its_window():
    assert len(detectors.create("hog", input_size=(128, 64)).detect([padded(person()[0])])) == 1
    with pytest.raises(InputError, match="at least 128 rows"):
        detectors.create("hog", input_size=(127, 64))


def test_darknet_boxes_are_where_the_network_says(tmp_path):
    detector = detectors.create(write_network(tmp_path, bias=sure()), input_size=(64, 64))
    detections = detector.detect([np.zeros((64, 64, 3), np.uint8)])[0]
    # the anchor, 20 wide and 40 high, in the middle of the four cells of 32 pixels
    expected = [(16 - 20, 16 + 20, 6, 26), (16 - 20, 16 + 20, 38, 58), (28, 68, 6, 26), (28, 68, 38, 58)]
    np.testing.assert_allclose(sorted(map(tuple, detections.boxes)), expected, atol=1e-3)
    np.testing.assert_allclose(detections.scores, 1, atol=1e-5)
    assert detections.boxes.dtype == detections.scores.dtype == np.float32


def test_darknet_boxes_come_back_in_pixels_of_the_image(tmp_path):
    detector = detectors.create(write_network(tmp_path, bias=sure()), input_size=(64, 64), nms=1.0)
    detections = detector.detect([np.zeros((256, 128, 3), np.uint8)])[0]  # shrunk to 64 x 32, the rest is grey
    expected = np.array([(-4, 36, 6, 26), (-4, 36, 38, 58), (28, 68, 6, 26), (28, 68, 38, 58)]) * 4
    np.testing.assert_allclose(sorted(map(tuple, detections.boxes)), expected, atol=1e-2)


def test_darknet_sees_red_as_the_first_channel(tmp_path):
    kernel = np.zeros((6, 3))
    kernel[5, 0] = 40  # certain where it is red
    bias = sure()
    bias[5] = -20
    detector = detectors.create(write_network(tmp_path, bias=bias, kernel=kernel), input_size=(64, 64))
    image = np.zeros((64, 64, 3), np.uint8)
    image[32:, 32:] = 255, 0, 0
    image[:32, 32:] = 0, 0, 255
    np.testing.assert_allclose(detector.detect([image])[0].boxes, [(28, 68, 38, 58)], atol=1e-3)


@pytest.mark.parametrize("classes, index", [(1, 0), (80, 0), (20, 14)])
def test_darknet_reports_persons_only(tmp_path, classes, index):
    image = [np.zeros((64, 64, 3), np.uint8)]
    yes = detectors.create(write_network(tmp_path, classes, "yes", sure(classes, index)), input_size=(64, 64))
    assert len(yes.detect(image)[0]) == 4
    if classes > 1:
        no = detectors.create(write_network(tmp_path, classes, "no", sure(classes, index + 1)), input_size=(64, 64))
        assert len(no.detect(image)[0]) == 0


def test_darknet_confidence_and_suppression_are_settings(tmp_path):
    bias = sure()
    bias[5] = np.log(0.6 / 0.4)  # a probability of 0.6
    spec, image = write_network(tmp_path, bias=bias), [np.zeros((64, 64, 3), np.uint8)]
    assert len(detectors.create(spec, input_size=(64, 64), confidence=0.59).detect(image)[0]) == 4
    assert len(detectors.create(spec, input_size=(64, 64), confidence=0.61).detect(image)[0]) == 0
    # one box and the next below it overlap by 8 of 72 rows
    assert len(detectors.create(spec, input_size=(64, 64), nms=0.12).detect(image)[0]) == 4
    assert len(detectors.create(spec, input_size=(64, 64), nms=0.10).detect(image)[0]) == 2


def random_network(folder):
    rng = np.random.default_rng(0)
    return write_network(folder, bias=rng.normal(size=6), kernel=rng.normal(size=(6, 3)) * 3)


def same(a, b):
    return all(np.array_equal(x.boxes, y.boxes) and np.array_equal(x.scores, y.scores)
               for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", ["hog", "darknet"])
def test_answers_do_not_depend_on_batches_or_threads(tmp_path, kind):
    spec = kind if kind == "hog" else random_network(tmp_path)
    detector = detectors.create(spec, confidence=0.0 if kind == "hog" else 0.25)
    rng = np.random.default_rng(1)
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
    with pytest.raises(InputError, match="darknet:<cfg>,<weights>"):
        detectors.create(spec)


@pytest.mark.parametrize("missing", ["net.cfg", "net.weights"])
def test_missing_file_is_named(tmp_path, missing):
    spec = write_network(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=rf"{missing}: no such file"):
        detectors.create(spec)


@pytest.mark.parametrize("options, message", [
    ({"cfg": "hello\n"}, r"net\.cfg.*cannot read"), ({"cfg": CFG.partition("[yolo]")[0]}, r"net\.cfg: has no \[yolo\]"),
    ({"classes": 3}, r"net\.cfg: a network of 3 classes")])
def test_other_networks_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        detectors.create(write_network(tmp_path, **options))


@pytest.mark.parametrize("change, message", [
    (lambda data: data[:-4], ".*truncated or belongs to another network"),
    (lambda data: data + b"0000", ".*truncated or belongs to another network"),
    (lambda data: data[:30], ".*truncated or belongs to another network"), (lambda data: b"", "")])
def test_weights_of_the_wrong_length_are_refused(tmp_path, change, message):
    spec = write_network(tmp_path)
    weights = tmp_path / "net.weights"
    weights.write_bytes(change(weights.read_bytes()))
    with pytest.raises(InputError, match=rf"net\.weights{message}"):
        detectors.create(spec)


@pytest.mark.parametrize("size", [(0, 64), (64, 100)])
def test_darknet_input_size_is_checked(tmp_path, size):
    with pytest.raises(InputError, match="multiples of 32"):
        detectors.create(write_network(tmp_path), input_size=size)


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

    shuffled = random.sample(rows, len(rows))
    first, second = run(rows), run(shuffled)
    assert same([first], [second])
    assert (np.diff(first.scores) <= 0).all()
