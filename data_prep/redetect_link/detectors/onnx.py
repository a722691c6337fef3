"""Exported detectors in ONNX format, run by onnxruntime."""

import ast
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.onnx_session import ImageSession
from data_prep.redetect_link.detectors.boxes import check_input_size
from data_prep.redetect_link.detectors.exports import GREY, ExportedDetector, person_class, recognise

_BATCH = 8


class OnnxDetector(ExportedDetector):
    """A detector of one of the families in `exports`.

    Args:
        path: of the .onnx file.
        confidence, nms, input_size, default_size: see `detectors.create`. The default confidence is 0.3, for FastestDet
            0.6; the size in the file comes before `default_size`. FastestDet's images do not keep their aspect ratio.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing, broken, of another size or of no known family.
    """

    def __init__(self, path: Path, confidence: float | None = None, nms: float = 0.45,
                 input_size: tuple[int, int] | None = None, default_size: tuple[int, int] = (256, 128)):
        self._session = ImageSession(path, "--detector=onnx")
        self.device, batch = self._session.device, self._session.batch or _BATCH
        size = _choose_size(path, self._session.size, input_size, default_size)
        outputs = self._session.run(np.full((batch, 3, *size), GREY, np.float32))
        family = recognise([output[:1] for output in outputs], size)
        if family is None:
            shapes = ", ".join(str(list(output.shape)) for output in outputs[:5])
            raise InputError(f"{path}: outputs of shape {shapes} for an image of {size[0]} x {size[1]} fit no known "
                             "detector; export a YOLOX, Ultralytics, YOLOv5, NanoDet or FastestDet")
        person = person_class(family.classes or 80, self._names())
        if person is None:
            raise InputError(f"{path}: {family.classes} classes, and none of them is known to be the person; use 1 "
                             "class, 20 (PASCAL VOC), 80 (COCO), or names in the file")
        super().__init__(family, person, confidence, nms, size, batch)

    def _names(self) -> dict[int, str] | None:
        """The names of the classes by index, which Ultralytics writes into its files."""
        try:
            names = ast.literal_eval(self._session.metadata.get("names", ""))
        except (ValueError, SyntaxError):
            return None
        return names if isinstance(names, dict) else None

    def _run(self, tensor: np.ndarray) -> list[np.ndarray]:
        missing = self._batch - len(tensor)  # a file may be exported for batches of one size only
        outputs = self._session.run(np.concatenate([tensor, np.repeat(tensor[:1], missing, axis=0)]))
        return [output[:len(tensor)] for output in outputs]


def _choose_size(path: Path, fixed: tuple[int | None, int | None], requested: tuple[int, int] | None,
                 default: tuple[int, int]) -> tuple[int, int]:
    default = requested or default
    size = (fixed[0] or default[0], fixed[1] or default[1])
    if requested and requested != size:
        raise InputError(f"detector input size {requested[0]}x{requested[1]}: {path} was exported for "
                         f"{size[0]}x{size[1]}; leave the size out, or export the network again")
    check_input_size(size)
    return size
