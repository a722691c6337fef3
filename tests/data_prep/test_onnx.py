"""Detectors and linkers in ONNX files: networks written here, whose answers are known."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cfaan_jax import FeatureExtractor
from cfaan_jax.errors import InputError
from data_prep.redetect_link import detectors, linkers

ROWS, COLUMNS = 64, 32
CELLS = 8 * 4 + 4 * 2 + 2 * 1


def write(path, nodes, outputs, constants, size=(ROWS, COLUMNS), batch="batch", names=None):
    """Writes a network with one input [batch, 3, *size]."""
    shape = [batch, 3, *size]
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], outputs,
                              [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if names:
        helper.set_model_props(model, {"names": str(names)})
    onnx.save(model, path)
    return path


def write_detector(path, rows, classes=80, **options):
    """A YOLOv8-like network: the score of its one box is the red of the image's first pixel, as a share of 255.

    `rows` are centre x, centre y, width and height of that box.
    """
    table = np.zeros((1, 4 + classes, CELLS), np.float32)
    table[0, :4, 3] = rows
    person = np.zeros_like(table)
    person[0, 4, 3] = 1
    constants = {"table": table, "person": person, "zero": np.zeros(2, np.int64), "one": np.ones(2, np.int64),
                 "axes": np.array([2, 3]), "first": np.zeros(1, np.int64), "end": np.ones(1, np.int64),
                 "channel": np.ones(1, np.int64), "flat": np.array([-1, 1, 1])}
    nodes = [helper.make_node("Slice", ["x", "zero", "one", "axes"], ["pixel"]),
             helper.make_node("Slice", ["pixel", "first", "end", "channel"], ["red"]),
             helper.make_node("Reshape", ["red", "flat"], ["light"]),
             helper.make_node("Mul", ["light", "person"], ["score"]),
             helper.make_node("Add", ["score", "table"], ["out"])]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", 4 + classes, CELLS])
    return write(path, nodes, [out], constants, **options)


def image(brightness, size=(ROWS, COLUMNS)):
    return np.full((*size, 3), brightness, np.uint8)


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_boxes_come_back_in_pixels_of_each_image_whatever_the_batch(tmp_path, batch):
    path = write_detector(tmp_path / "net.onnx", (16, 32, 8, 20), batch=batch)
    detector = detectors.create(f"onnx:{path}")
    images = [image(250), image(10), image(200, (128, 64)), image(180), image(220, (64, 16)), image(0), image(90)]
    detections = detector.detect(images)
    assert [len(persons) for persons in detections] == [1, 0, 1, 1, 1, 0, 1]
    scores = [persons.scores[0] for persons in detections if len(persons)]
    np.testing.assert_allclose(scores, np.array([250, 200, 180, 220, 90]) / 255, atol=1e-5)
    np.testing.assert_allclose(detections[0].boxes, [[22, 42, 12, 20]], atol=1e-4)
    np.testing.assert_allclose(detections[2].boxes, [[44, 84, 24, 40]], atol=1e-4)  # twice the size
    np.testing.assert_allclose(detections[4].boxes, [[22, 42, 12, 20]], atol=1e-4)  # the canvas is wider than the image
    assert detector.device in ("CPU", "CUDA")


def test_confidence_is_a_threshold(tmp_path):
    path = write_detector(tmp_path / "net.onnx", (16, 32, 8, 20))
    assert len(detectors.create(f"onnx:{path}", confidence=0.59).detect([image(153)])[0]) == 1
    assert len(detectors.create(f"onnx:{path}", confidence=0.61).detect([image(153)])[0]) == 0


def test_names_in_the_file_say_which_class_is_the_person(tmp_path):
    path = write_detector(tmp_path / "named.onnx", (16, 32, 8, 20), classes=3, names={0: "person", 1: "car", 2: "bus"})
    assert len(detectors.create(f"onnx:{path}").detect([image(250)])[0]) == 1
    path = write_detector(tmp_path / "other.onnx", (16, 32, 8, 20), classes=3, names={0: "car", 1: "person", 2: "bus"})
    assert len(detectors.create(f"onnx:{path}").detect([image(250)])[0]) == 0
    path = write_detector(tmp_path / "unnamed.onnx", (16, 32, 8, 20), classes=3)
    with pytest.raises(InputError, match="unnamed.onnx: 3 classes"):
        detectors.create(f"onnx:{path}")


def test_names_that_are_code_are_never_run(tmp_path):
    path = write_detector(tmp_path / "net.onnx", (16, 32, 8, 20), names="__import__('os').system('touch /tmp/ran')")
    assert len(detectors.create(f"onnx:{path}").detect([image(250)])[0]) == 1


def test_the_size_of_the_file_counts_and_another_is_refused(tmp_path):
    path = write_detector(tmp_path / "net.onnx", (16, 32, 8, 20))
    assert len(detectors.create(f"onnx:{path}", input_size=(ROWS, COLUMNS)).detect([])) == 0
    assert len(detectors.create(f"onnx:{path}", default_size=(480, 640)).detect([image(250)])[0]) == 1
    with pytest.raises(InputError, match="exported for 64x32"):
        detectors.create(f"onnx:{path}", input_size=(128, 64))


def write_features(path, size=(ROWS, COLUMNS), batch="batch"):
    """A re-identification network: the mean of each normalised colour."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["out"], axes=[2, 3], keepdims=0)]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 3])
    return write(path, nodes, [out], {}, size=size, batch=batch)


@pytest.mark.parametrize("batch", ["batch", 1])
def test_a_linker_normalises_as_for_imagenet(tmp_path, batch):
    linker = linkers.create(f"onnx:{write_features(tmp_path / 'reid.onnx', batch=batch)}")
    colours = np.random.default_rng(0).integers(0, 256, (35, 3), dtype=np.uint8)
    crops = [np.broadcast_to(colour, (20 + k, 10, 3)).copy() for k, colour in enumerate(colours)]
    expected = (colours / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    features = linker.features(crops)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_a_network_of_single_images_gives_features_of_tracklets(tmp_path):
    extractor = FeatureExtractor.open(write_features(tmp_path / "reid.onnx"), batch_size=4)
    colours = np.random.default_rng(0).integers(0, 256, (7, 3), dtype=np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (7, ROWS, COLUMNS, 3)).copy()
    features = extractor({"a": frames[:5], "b": frames[5:]})
    expected = (colours / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert features.ids == ["a", "b"]
    np.testing.assert_allclose(features.features, [expected[:5].mean(0), expected[5:].mean(0)], atol=1e-5)


def test_detectors_and_linkers_are_not_confused(tmp_path):
    detector = write_detector(tmp_path / "detector.onnx", (16, 32, 8, 20))
    features = write_features(tmp_path / "reid.onnx")
    with pytest.raises(InputError, match="detector.onnx: gives .* a re-identification network gives"):
        linkers.create(f"onnx:{detector}")
    with pytest.raises(InputError, match="reid.onnx: outputs of shape .* fit no known detector"):
        detectors.create(f"onnx:{features}")


def test_networks_that_take_or_give_something_else_are_refused(tmp_path):
    half = onnx.load(write_features(tmp_path / "reid.onnx"))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(half, tmp_path / "half.onnx")
    for create in (detectors.create, linkers.create):
        with pytest.raises(InputError, match=r"half.onnx: takes x tensor\(float16\).*takes one float32 tensor"):
            create(f"onnx:{tmp_path / 'half.onnx'}")
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [])
    nodes = [helper.make_node("ReduceMean", ["x"], ["out"], keepdims=0)]
    scalar = write(tmp_path / "scalar.onnx", nodes, [out], {})
    for create in (detectors.create, linkers.create):
        with pytest.raises(InputError, match="scalar.onnx: gives outputs of shape"):
            create(f"onnx:{scalar}")


@pytest.mark.parametrize("create", [detectors.create, linkers.create])
def test_missing_and_broken_files_are_named(tmp_path, create):
    with pytest.raises(InputError, match="nowhere.onnx: no such file"):
        create(f"onnx:{tmp_path / 'nowhere.onnx'}")
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(InputError, match="broken.onnx: onnxruntime cannot open this network"):
        create(f"onnx:{tmp_path / 'broken.onnx'}")
