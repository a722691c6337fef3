"""YOLO networks in Darknet's format, YOLOv3 and YOLOv4 among them, run by OpenCV."""

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.errors import InputError
from data_prep.redetect_link.detectors.boxes import PERSON_CLASS, Detections, check_input_size, letterbox, suppress

_BATCH = 8
_GREY = 127  # of the input around an image that does not fill it


class DarknetDetector:
    """A YOLO network in Darknet's format (the YOLOv3 and YOLOv4 families), run by OpenCV on the CPU.

    Args:
        cfg, weights: the network's two files. A network of one class detects persons.
        confidence, nms, input_size: see `detectors.create`; OpenCV itself drops confidences below 0.2.

    Raises:
        InputError: a file is missing or broken, or the weights belong to another network.
    """

    device = "CPU"

    def __init__(self, cfg: Path, weights: Path, confidence: float = 0.3, nms: float = 0.45,
                 input_size: tuple[int, int] = (256, 128)):
        check_input_size(input_size)
        self._cfg, self._weights = cfg, weights
        self._confidence, self._nms, self._size = confidence, nms, input_size
        self._local = threading.local()  # OpenCV's networks keep state and must not be shared
        self._local.network = _read_darknet(cfg, weights)
        classes = self._predict([np.zeros((*input_size, 3), np.uint8)]).shape[-1] - 5
        if classes not in PERSON_CLASS:
            raise InputError(f"{cfg}: a network of {classes} classes, and none of them is known to be the person; "
                             "use one of 1 class, 20 (PASCAL VOC) or 80 (COCO)")
        self._person = 5 + PERSON_CLASS[classes]

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of every image (uint8 `[h, w, 3]`, RGB)."""
        detections = []
        for start in range(0, len(images), _BATCH):
            batch = images[start:start + _BATCH]
            canvases, scales = zip(*(letterbox(image, self._size, _GREY) for image in batch), strict=True)
            for rows, scale in zip(self._predict(canvases), scales, strict=True):
                rows = rows[rows[:, self._person] >= self._confidence]
                x, y, width, height = rows[:, :4].T * np.array([self._size[1], self._size[0]] * 2)[:, None] / scale
                boxes = np.stack([y - height / 2, y + height / 2, x - width / 2, x + width / 2], axis=1)
                detections.append(suppress(boxes, rows[:, self._person], self._nms))
        return detections

    def _predict(self, canvases: Sequence[np.ndarray]) -> np.ndarray:
        """Runs the network: `[B, candidates, 5 + classes]` with centre, size (fractions), objectness, classes."""
        if not hasattr(self._local, "network"):
            self._local.network = _read_darknet(self._cfg, self._weights)
        network = self._local.network
        network.setInput(cv2.dnn.blobFromImages(canvases, 1 / 255))
        outputs = network.forward(network.getUnconnectedOutLayersNames())
        return np.concatenate([out.reshape(len(canvases), -1, out.shape[-1]) for out in outputs], axis=1)


def _read_darknet(cfg: Path, weights: Path) -> cv2.dnn.Net:
    for path in (cfg, weights):
        if not path.is_file():
            raise InputError(f"{path}: no such file; name the network as darknet:<cfg>,<weights>")
    try:
        network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    except cv2.error as error:
        raise InputError(f"{cfg}, {weights}: OpenCV cannot read this Darknet network ({error.err}); check that "
                         "the .cfg is complete and belongs to the .weights") from error
    layers = [network.getLayer(name) for name in network.getLayerNames()]
    if not any(layer.type == "Region" for layer in layers):
        raise InputError(f"{cfg}: has no [yolo] or [region] layer, so it is not a detector; choose a YOLO network")
    # OpenCV reads past the end of a short file without an error, and then all boxes are NaN.
    parameters = sum(blob.size for layer in layers if layer.type != "Region" for blob in layer.blobs)
    with weights.open("rb") as file:
        major, minor = np.frombuffer(file.read(8).ljust(8, b"\0"), "<i4")
    # The header: three int32 (version major, minor, revision), then a counter of 4 or, since 0.2, 8 bytes.
    size, expected = weights.stat().st_size, (20 if major * 10 + minor >= 2 else 16) + 4 * parameters
    if size != expected:
        raise InputError(f"{weights}: {size} bytes, but {cfg} needs {expected}; the file is truncated or belongs to "
                         "another network: fetch it again or name its own .cfg")
    return network
