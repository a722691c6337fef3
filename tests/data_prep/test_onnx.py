"""Detectors and linkers in ONNX files: networks written here, whose answers are known."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cfaan_jax import FeatureExtractor
from data_prep.redetect_link import detectors, linkers
from tests.data_prep.checks import check_refused

ROWS, COLUMNS = 64, 32
CELLS = 8 * 4 + 4 * 2 + 2 * 1


def write(path, nodes, outputs, constants, batch="batch", names=None):
    """Writes a network with one input [batch, 3, ROWS, COLUMNS]."""
    shape = [batch, 3, ROWS, COLUMNS]
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], outputs,
                              [numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if names:
        helper.set_model_props(model, {"names": str(names)})
    onnx.save(model, path)
    return path


def write_detector(path, classes=80, **options):
    """A YOLOv8-like network: the score of its one box is the red of the image's first pixel, as a share of 255."""
    table = np.zeros((1, 4 + classes, CELLS), np.float32)
    table[0, :4, 3] = 16, 32, 8, 20  # centre x, centre y, width and height
    person = np.zeros_like(table)
    person[0, 4, 3] = 1
    constants = {"table": table, "person": person, "start": np.zeros(3, np.int64), "end": np.ones(3, np.int64),
                 "axes": np.array([1, 2, 3]), "flat": np.array([-1, 1, 1])}
    nodes = [helper.make_node("Slice", ["x", "start", "end", "axes"], ["red"]),
             helper.make_node("Reshape", ["red", "flat"], ["light"]),
             helper.make_node("Mul", ["light", "person"], ["score"]),
             helper.make_node("Add", ["score", "table"], ["out"])]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", 4 + classes, CELLS])
    return f"onnx:{write(path, nodes, [out], constants, **options)}"


def image(brightness, size=(ROWS, COLUMNS)):
    return np.full((*size, 3), brightness, np.uint8)


def count_persons(spec, brightness=250, **options):
    return len(detectors.create(spec, **options).detect([image(brightness)])[0])


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_boxes_come_back_in_pixels_of_each_image_whatever_the_batch(tmp_path, batch):
    detector = detectors.create(write_detector(tmp_path / "net.onnx", batch=batch))
    images = [image(250), image(10), image(200, (128, 64)), image(180), image(220, (64, 16)), image(0), image(90)]
    detections = detector.detect(images)
    assert [len(persons) for persons in detections] == [1, 0, 1, 1, 1, 0, 1]
    scores = [persons.scores[0] for persons in detections if len(persons)]
    np.testing.assert_allclose(scores, np.array([250, 200, 180, 220, 90]) / 255, atol=1e-5)
    np.testing.assert_allclose(detections[0].boxes, [[22, 42, 12, 20]], atol=1e-4)
    np.testing.assert_allclose(detections[2].boxes, [[44, 84, 24, 40]], atol=1e-4)  # twice the size
    np.testing.assert_allclose(detections[4].boxes, [[22, 42, 12, 20]], atol=1e-4)  # the canvas is wider than the image
    assert detector.device in ("CPU", "CUDA")


@pytest.mark.parametrize("confidence, count", [(0.59, 1), (0.61, 0)])
def test_confidence_is_a_threshold(tmp_path, confidence, count):
    assert count_persons(write_detector(tmp_path / "net.onnx"), 153, confidence=confidence) == count


@pytest.mark.parametrize("names, count", [(["person", "car", "bus"], 1), (["car", "person", "bus"], 0)])
def test_names_in_the_file_say_which_class_is_the_person(tmp_path, names, count):
    assert count_persons(write_detector(tmp_path / "net.onnx", classes=3, names=dict(enumerate(names)))) == count


def test_names_that_are_code_are_never_run(tmp_path):
    assert count_persons(write_detector(tmp_path / "net.onnx", names="__import__('os').system('touch /tmp/ran')")) == 1


def test_the_size_of_the_file_counts_and_another_is_refused(tmp_path):
    spec = write_detector(tmp_path / "net.onnx")
    assert len(detectors.create(spec, input_size=(ROWS, COLUMNS)).detect([])) == 0
    assert count_persons(spec, default_size=(480, 640)) == 1
    check_refused("exported for 64x32", detectors.create, spec, input_size=(128, 64))


def write_features(path, batch="batch"):
    """A re-identification network: the mean of each normalised colour."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["out"], axes=[2, 3], keepdims=0)]
    return write(path, nodes, [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 3])], {}, batch=batch)


def normalised(colours):
    return (colours / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)


@pytest.mark.parametrize("batch", ["batch", 1])
def test_a_linker_normalises_as_for_imagenet(tmp_path, batch):
    linker = linkers.create(f"onnx:{write_features(tmp_path / 'reid.onnx', batch=batch)}")
    colours = np.random.default_rng(0).integers(0, 256, (35, 3), dtype=np.uint8)
    features = linker.features([np.full((20 + k, 10, 3), colour) for k, colour in enumerate(colours)])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, normalised(colours), atol=1e-4)


def test_a_network_of_single_images_gives_features_of_tracklets(tmp_path):
    extractor = FeatureExtractor.open(write_features(tmp_path / "reid.onnx"), batch_size=4)
    colours = np.random.default_rng(0).integers(0, 256, (7, 3), dtype=np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (7, ROWS, COLUMNS, 3)).copy()
    features = extractor({"a": frames[:5], "b": frames[5:]})
    expected = normalised(colours)
    assert features.ids == ["a", "b"]
    np.testing.assert_allclose(features.features, [expected[:5].mean(0), expected[5:].mean(0)], atol=1e-5)


def test_networks_of_the_other_kind_or_of_unknown_classes_are_refused(tmp_path):
    detector, unnamed = write_detector(tmp_path / "detector.onnx"), write_detector(tmp_path / "unnamed.onnx", classes=3)
    check_refused("detector.onnx: gives .* a re-identification network gives", linkers.create, detector)
    check_refused("reid.onnx: outputs of shape .* fit no known detector", detectors.create,
                  f"onnx:{write_features(tmp_path / 'reid.onnx')}")
    check_refused("unnamed.onnx: 3 classes", detectors.create, unnamed)


@pytest.mark.parametrize("create", [detectors.create, linkers.create])
def test_files_that_are_missing_broken_or_take_or_give_something_else_are_refused(tmp_path, create):
    check_refused("nowhere.onnx: no such file", create, f"onnx:{tmp_path / 'nowhere.onnx'}")
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    check_refused("broken.onnx: onnxruntime cannot open this network", create, f"onnx:{tmp_path / 'broken.onnx'}")
    half = onnx.load(write_features(tmp_path / "reid.onnx"))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(half, tmp_path / "half.onnx")
    check_refused(r"half.onnx: takes x tensor\(float16\).*one float32 tensor", create, f"onnx:{tmp_path / 'half.onnx'}")
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [])
    scalar = write(tmp_path / "scalar.onnx", [helper.make_node("ReduceMean", ["x"], ["out"], keepdims=0)], [out], {})
    check_refused("scalar.onnx: gives outputs of shape", create, f"onnx:{scalar}")
