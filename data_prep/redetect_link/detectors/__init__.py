"""Person detectors with one small interface, chosen by name.

    hog                            OpenCV's people detector; needs no file
    darknet:<cfg>,<weights>        YOLO in Darknet's format, YOLOv4 (the paper's detector) among them, by OpenCV
    onnx:<file>                    exports of YOLOX, Ultralytics, YOLOv5, NanoDet and FastestDet, by onnxruntime
    ultralytics:<weights or yaml>  any YOLO that Ultralytics loads (AGPL-3.0), by PyTorch

Boxes are `(y0, y1, x0, x1)` in pixels of the image, end exclusive; they may leave the image. A detector reports persons
only, takes lists of images, and may be called from several threads at once.
"""

from pathlib import Path
from typing import Any

from cfaan_jax.errors import InputError
from data_prep.redetect_link.detectors.boxes import Detections, Detector, suppress
from data_prep.redetect_link.detectors.darknet import DarknetDetector
from data_prep.redetect_link.detectors.hog import HogDetector

__all__ = ["Detections", "Detector", "create", "suppress"]

NAMES = "hog, darknet:<cfg>,<weights>, onnx:<file> or ultralytics:<weights or yaml>"


def create(spec: str, *, confidence: float | None = None, nms: float | None = None,
           input_size: tuple[int, int] | None = None, default_size: tuple[int, int] | None = None,
           flag: str = "--detector") -> Detector:
    """Creates a detector from its name.

    Args:
        spec: one of the names above.
        confidence: lowest score of a detection: a probability, or for hog the distance to the SVM's plane.
        nms: highest intersection over union of two detections.
        input_size: `(height, width)` of the network's input, multiples of 32 for YOLO. Images are resized to fit it,
            with their aspect ratio kept. None for this or the other two means the detector's own default, which was
            chosen on crops of one person.
        default_size: replaces the detector's own default size, unless its file has a fixed size.
        flag: the flag that holds `spec`, for errors.

    Raises:
        InputError: unknown name, a package that is not installed, or a file that is missing, broken or belongs to
            another network.
    """
    kind, _, files = spec.partition(":")
    values = {"confidence": confidence, "nms": nms, "input_size": input_size or default_size}
    if kind == "onnx":
        values |= {"input_size": input_size, "default_size": default_size}
    options: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    if kind == "hog" and not files:
        return HogDetector(**options)
    if kind == "darknet":
        cfg, _, weights = files.partition(",")
        if not cfg or not weights:
            raise InputError(f"{flag}={spec}: a Darknet network needs two files, darknet:<cfg>,<weights>")
        return DarknetDetector(Path(cfg), Path(weights), **options)
    # onnxruntime, PyTorch and Ultralytics are extras, imported only for their detectors.
    if kind == "onnx" and files:
        from data_prep.redetect_link.detectors.onnx import OnnxDetector
        return OnnxDetector(Path(files), **options)
    if kind == "ultralytics" and files:
        from data_prep.redetect_link.detectors.ultralytics_yolo import UltralyticsDetector
        return UltralyticsDetector(files, **options)
    raise InputError(f"{flag}={spec}: unknown detector; choose {NAMES}"
                     f"{', or none for frames as they are' if flag == '--detector' else ''}")
