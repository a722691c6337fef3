"""Exported detectors in ONNX format, run by onnxruntime."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError
from data_prep.redetect_link.detectors.boxes import Detections, check_input_size, letterbox, resize
from data_prep.redetect_link.detectors.exports import GREY, person_class, recognise
from data_prep.redetect_link.onnx_session import ImageSession

_BATCH = 8


class OnnxDetector:
    """A detector of one of the families in `exports`.

    Args:
        path: of the .onnx file.
        confidence: lowest score that counts; None: 0.3, for FastestDet 0.6.
        nms: largest intersection over union of two boxes that are both kept.
        input_size: `(height, width)` of the network's input; None: what the file asks for, or `default_size` where it
            takes any. Images are resized to fit it, their aspect ratio kept where the family is used to that.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing, broken, of another size or of no known family.
    """

    def __init__(self, path: Path, confidence: float | None = None, nms: float = 0.45,
                 input_size: tuple[int, int] | None = None, default_size: tuple[int, int] = (256, 128)):
        self._session = ImageSession(path, "--detector=onnx")
        self.device, self._batch = self._session.device, self._session.batch or _BATCH
        self._size = self._choose_size(path, self._session.size, input_size, default_size)
        outputs = self._session.run(np.full((self._batch, 3, *self._size), GREY, np.float32))
        family = recognise([output[:1] for output in outputs], self._size)
        if family is None:
            shapes = ", ".join(str(list(output.shape)) for output in outputs)
            raise InputError(f"{path}: outputs of shape {shapes} for an image of {self._size[0]} x {self._size[1]} are "
                             "of no detector known here: YOLOX, Ultralytics, YOLOv5, NanoDet, FastestDet")
        person = person_class(family.classes or 80, self._names())
        if person is None:
            raise InputError(f"{path}: {family.classes} classes, and which of them is the person is known only for 1 "
                             "class, 20 (PASCAL VOC), 80 (COCO), or from names in the file; use one of those")
        self._family, self._person, self._nms = family, person, nms
        self._confidence = family.confidence if confidence is None else confidence

    def _names(self) -> dict[int, str] | None:
        """The names of the classes by index, which Ultralytics writes into its files."""
        text = self._session.metadata.get("names", "")
        try:
            names = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return None
        return names if isinstance(names, dict) else None

    @staticmethod
    def _choose_size(path: Path, fixed: tuple[int | None, int | None], given: tuple[int, int] | None,
                     default: tuple[int, int]) -> tuple[int, int]:
        default = given or default
        size = (fixed[0] or default[0], fixed[1] or default[1])
        if given and given != size:
            raise InputError(f"detector input size {given[0]}x{given[1]}: {path} was exported for {size[0]}x{size[1]}; "
                             "leave the size out, or export the network again")
        check_input_size(size)
        return size

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of each image (uint8 `[h, w, 3]`, RGB)."""
        return list(self._detect_all(images))

    def _detect_all(self, images: Sequence[np.ndarray]) -> Iterator[Detections]:
        for start in range(0, len(images), self._batch):
            batch = images[start:start + self._batch]
            canvases, scales = zip(*map(self._fit, batch), strict=True)
            missing = self._batch - len(batch)  # a file may be exported for batches of one size only
            tensor = self._family.tensor([*canvases, *canvases[:1] * missing])
            outputs = self._session.run(tensor)
            for row, scale in enumerate(scales):
                found = self._family.read([output[row] for output in outputs], self._size)
                yield found.persons(self._person, self._confidence, scale, self._nms)

    def _fit(self, image: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
        """The image as the network wants it, and by how much its rows and columns were scaled."""
        if self._family.stretched:
            return resize(image, self._size), (self._size[0] / image.shape[0], self._size[1] / image.shape[1])
        canvas, scale = letterbox(image, self._size, GREY)
        return canvas, (scale, scale)
