"""Ultralytics for real: networks with random weights from its own descriptions, and the pictures in its package."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.redetect_link import detectors
from data_prep.redetect_link.detectors.ultralytics_yolo import import_ultralytics
from tests.data_prep.checks import check_refused, decode

pytestmark = pytest.mark.slow

if not (find_spec("torch") and find_spec("ultralytics")):
    pytest.skip("PyTorch is not installed (tests/requirements-torch.txt has it for 3.11)", allow_module_level=True)
torch, ultralytics = import_ultralytics()

SIZE = (320, 320)
PICTURES = [decode(path.read_bytes()) for path in sorted((Path(ultralytics.__file__).parent / "assets").glob("*.jpg"))]


@pytest.fixture(scope="module", params=["yolov8n.yaml", "yolo11n.yaml"])
def weights(request, tmp_path_factory) -> Path:
    """A checkpoint with random weights whose boxes and scores are spread out."""
    torch.manual_seed(0)
    model = ultralytics.YOLO(request.param, task="detect")
    with torch.no_grad():
        for parts in (*model.model.model[-1].cv2, *model.model.model[-1].cv3):  # boxes, scores
            parts[-1].bias.normal_(0, 1)
            parts[-1].weight.normal_(0, 0.1)
        for module in model.model.modules():  # fresh statistics let nothing through: take those of the pictures
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        canvases = [cv2.resize(picture, SIZE[::-1]) for picture in PICTURES]
        model.model.train()(torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).float() / 255)
    path = tmp_path_factory.mktemp("yolo") / f"{Path(request.param).stem}.pt"
    model.save(path)
    return path


def test_boxes_are_those_of_its_own_suppression(weights):
    assert len(PICTURES) >= 2
    detector = detectors.create(f"ultralytics:{weights}", confidence=0.5, input_size=SIZE)
    network = ultralytics.YOLO(weights).model.eval()
    for picture, detections in zip(PICTURES, detector.detect(PICTURES), strict=True):
        scale = min(SIZE[0] / picture.shape[0], SIZE[1] / picture.shape[1])
        rows, columns = (round(length * scale) for length in picture.shape[:2])
        canvas = np.full((*SIZE, 3), 114, np.uint8)
        canvas[:rows, :columns] = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
        with torch.inference_mode():
            raw = network(torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255)
        # Persons only, as if the network knew no other class: a box counts by its person's score.
        person = torch.cat([raw[0][:, :4], raw[0][:, 4:5]], dim=1)
        expected = ultralytics.utils.nms.non_max_suppression(person, conf_thres=0.5, iou_thres=0.45,
                                                                 max_det=3000)[0].numpy()
        assert len(detections) == len(expected) > 0
        order = np.lexsort((expected[:, 0], -expected[:, 4]))
        np.testing.assert_allclose(detections.scores, expected[order, 4], atol=1e-5)
        x0, y0, x1, y1 = expected[order, :4].T / scale
        np.testing.assert_allclose(detections.boxes, np.stack([y0, y1, x0, x1], axis=1), atol=0.05)


def test_a_description_alone_makes_a_network_with_random_weights():
    detector = detectors.create("ultralytics:yolo11n.yaml", input_size=(64, 32))
    assert detector.detect([]) == [] and detector.device in ("CPU", "CUDA")
    assert len(detector.detect([np.zeros((64, 32, 3), np.uint8)] * 3)) == 3


def test_a_model_that_must_be_fetched_is_named_with_where_to_get_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    said = "fetch yolo11n.pt from https://github.com/ultralytics/assets/releases"
    check_refused(said, detectors.create, "ultralytics:yolo11n.pt")


def test_a_broken_file_and_a_network_without_persons_are_refused(tmp_path):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nothing")
    check_refused("broken.pt: cannot be loaded .* check the file", detectors.create, f"ultralytics:{broken}")
    for name in ("yolo11n-cls.yaml", "yolo11n-seg.yaml", "yolo11n-obb.yaml"):
        check_refused("not a detector of boxes", detectors.create, f"ultralytics:{name}")
    check_refused("--detector=onnx:net.onnx", detectors.create, "ultralytics:net.onnx")
    check_refused("multiples of 32", detectors.create, "ultralytics:yolo11n.yaml", input_size=(100, 64))


def test_other_packages_are_as_before_afterwards():
    code = ("import cv2, numpy, PIL.Image as i; f = lambda: (i.open, cv2.imread, cv2.imwrite, cv2.imshow, "
            "str(numpy.get_printoptions()), cv2.getNumThreads()); before = f(); "
            "from data_prep.redetect_link.detectors.ultralytics_yolo import import_ultralytics as load; "
            "load()[1].YOLO; assert f() == before")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env=os.environ)
