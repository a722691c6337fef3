"""Outputs of exported detectors: one known box, encoded as each family does it, comes back in pixels."""

import numpy as np
import pytest

from data_prep.redetect_link.detectors.exports import person_class, recognise

SIZE = (128, 64)
CELLS = 16 * 8 + 8 * 4 + 4 * 2
BOX = (40.0, 88.0, 20.0, 44.0)  # y0, y1, x0, x1: its centre (x 32, y 64) lies in row 8, column 4 of the stride 8
CLASSES = 80
PLACE = 8 * 8 + 4


def rows(count, columns, values):
    """A table of zeros but for the row of the known box."""
    table = np.zeros((1, count, columns), np.float32)
    table[0, PLACE, :len(values)] = values
    return table


ULTRALYTICS = [rows(CELLS, 4 + CLASSES, (32, 64, 24, 48, 0.9)).transpose(0, 2, 1)]


def end_to_end():
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 7] = (20, 40, 44, 88, 0.9, 0)
    table[0, 8] = (0, 0, 64, 128, 0.95, 5)
    return [table]


def yolox(decoded):
    table = np.zeros((CELLS, 5 + CLASSES), np.float32)
    if decoded:
        rows, columns = np.mgrid[:16, :8].reshape(2, -1)
        table[:128, :2] = 8 * np.stack([columns, rows], axis=1) + 4
        table[PLACE, :4] = 32, 64, 24, 48
    else:
        table[:, :2] = 0.4
        table[PLACE, :4] = 0, 0, np.log(24 / 8), np.log(48 / 8)
    table[PLACE, 4], table[PLACE, 5] = 0.9, 1.0
    return [table[None]]


def fastestdet():
    maps = np.zeros((5 + CLASSES, 8, 4), np.float32)
    logit = lambda share: np.log(share / (1 - share))  # noqa: E731
    maps[:6, 4, 2] = 0.9, 0.0, 0.0, logit(24 / 64), logit(48 / 128), 0.9
    return [maps[None]]


def nanodet(order):
    outputs = []
    for stride in (8, 16, 32):
        cells = (SIZE[0] // stride) * (SIZE[1] // stride)
        probabilities, bins = np.zeros((cells, CLASSES), np.float32), np.full((cells, 32), -30, np.float32)
        if stride == 8:  # the centre of the cell is (36, 68): 16, 28, 8, 20 pixels to the borders
            probabilities[PLACE, 0] = 0.9
            for side, distance in enumerate((2.0, 3.5, 1.0, 2.5)):
                low = 8 * side + int(distance)
                bins[PLACE, low:low + 2] = np.log([1 - distance % 1, max(distance % 1, 1e-9)])
        outputs += [probabilities[None], bins[None]]
    return [outputs[k] for k in order]


@pytest.mark.parametrize("name, outputs", [
    ("Ultralytics", ULTRALYTICS), ("Ultralytics, end to end", end_to_end()),
    ("YOLOX", yolox(decoded=False)), ("YOLOX", yolox(decoded=True)),
    ("YOLOv5", [rows(3 * CELLS, 5 + CLASSES, (32, 64, 24, 48, 0.9, 1.0))]),
    ("FastestDet", fastestdet()), ("NanoDet", nanodet(range(6))), ("NanoDet", nanodet((0, 2, 4, 1, 3, 5)))])
def test_a_known_box_comes_back(name, outputs):
    family = recognise(outputs, SIZE)
    assert family.name == name and family.classes in (0, CLASSES)
    boxes, scores = family.read([output[0] for output in outputs], SIZE)
    scores = scores[:, 0]
    assert scores.max() == pytest.approx(0.9, abs=1e-5) and (scores > 0.3).sum() == 1
    np.testing.assert_allclose(boxes[scores.argmax()], BOX, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1000), (1, 3, 77), (1, 77, 5), (1, 2, 3, 4)])
def test_other_networks_are_not_recognised(shape):
    assert recognise([np.zeros(shape, np.float32)], SIZE) is None


@pytest.mark.parametrize("name, blue, value", [("YOLOX", 0, 200.0), ("Ultralytics", 2, 200 / 255)])
def test_colours_come_as_each_family_wants_them(name, blue, value):
    family = recognise(yolox(decoded=False) if name == "YOLOX" else ULTRALYTICS, SIZE)
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 2] = 200
    tensor = family.tensor([image])
    assert tensor.shape == (1, 3, *SIZE) and tensor.dtype == np.float32
    assert tensor[0, blue].max() == pytest.approx(value) and tensor.sum() == pytest.approx(tensor[0, blue].sum())


def test_the_person_is_known_by_name_or_by_the_number_of_classes():
    assert person_class(2, {0: "car", 1: "person"}) == 1
    assert person_class(1, {0: "pedestrian"}) == 0
    assert person_class(2, {0: "car", 1: "bus"}) is None
    assert person_class(80, {index: str(index) for index in range(80)}) == 0
    assert [person_class(count) for count in (1, 20, 80, 7)] == [0, 14, 0, None]
