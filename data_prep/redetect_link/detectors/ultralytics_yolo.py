"""Any YOLO that Ultralytics loads, run by PyTorch. Ultralytics and its weights are licensed under AGPL-3.0.

The package is an extra and imported only here. Weights in .pt files are Python pickles: loading one can run code, so
load only files whose source you trust.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cfaan_jax.errors import InputError
from data_prep.redetect_link.detectors.boxes import Detections, check_input_size, letterbox
from data_prep.redetect_link.detectors.exports import GREY, person_class, recognise

_BATCH = {"cpu": 8, "cuda": 64}
_INSTALL = "pip install torch torchvision && pip install --no-deps -r data_prep/requirements-ultralytics.txt"
_RELEASES = "https://github.com/ultralytics/assets/releases"


class UltralyticsDetector:
    """A detector by Ultralytics, on a GPU if PyTorch sees one.

    Args:
        model: a .pt file, a .yaml file (random weights), or the bare name of one that Ultralytics knows, such as
            yolo11n.pt, which it downloads if it is not in the current folder.
        confidence: lowest probability that counts.
        nms: largest intersection over union of two boxes that are both kept.
        input_size: `(height, width)` of the network's input, multiples of 32. Images are resized to fit it, their
            aspect ratio kept.

    Raises:
        InputError: Ultralytics is not installed, the model cannot be had or is no detector of persons.
    """

    def __init__(self, model: str, confidence: float = 0.3, nms: float = 0.45,
                 input_size: tuple[int, int] = (256, 128)):
        check_input_size(input_size)
        self._confidence, self._nms, self._size = confidence, nms, input_size
        self._torch, self._network, names = _load(model)
        place = "cuda" if self._torch.cuda.is_available() else "cpu"
        self.device, self._batch = place.upper(), _BATCH[place]
        self._network = self._network.to(place).eval()
        self._place, self._lock = place, threading.Lock()  # the network caches its grid, one thread at a time
        family = recognise(self._run(np.full((1, 3, *input_size), 0.45, np.float32)), input_size)
        person = person_class(len(names), names)
        if family is None or person is None:
            raise InputError(f"--detector=ultralytics:{model}: no detector with a class 'person'; give one, such as "
                             "yolo11n.pt")
        self._family, self._person = family, person

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Returns the persons of each image (uint8 `[h, w, 3]`, RGB)."""
        return list(self._detect_all(images))

    def _detect_all(self, images: Sequence[np.ndarray]) -> Iterator[Detections]:
        for start in range(0, len(images), self._batch):
            fitted = (letterbox(image, self._size, GREY) for image in images[start:start + self._batch])
            canvases, scales = zip(*fitted, strict=True)
            outputs = self._run(self._family.tensor(canvases))
            for row, scale in enumerate(scales):
                found = self._family.read([output[row] for output in outputs], self._size)
                yield found.persons(self._person, self._confidence, (scale, scale), self._nms)

    def _run(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The network's first output, boxes with scores, for float32 `[B, 3, H, W]`."""
        with self._lock, self._torch.inference_mode():
            output = self._network(self._torch.from_numpy(tensor).to(self._place))
        output = output[0] if isinstance(output, (tuple, list)) else output
        return [output.float().cpu().numpy()]


def import_ultralytics() -> tuple[Any, Any]:
    """PyTorch and Ultralytics, without what it puts into OpenCV, Pillow and NumPy at import.

    With that a broken image, for instance, would be answered by an attempt to install a package.

    Raises:
        ImportError: one of them is not installed.
    """
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # it would call pip
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))  # it would set 1 for the whole process
    image_open, imread, imwrite, imshow = Image.open, cv2.imread, cv2.imwrite, cv2.imshow
    printing, threads = np.get_printoptions(), cv2.getNumThreads()
    import torch
    import ultralytics
    ultralytics.YOLO  # noqa: B018  what is imported lazily must be there before things are put back
    Image.open, cv2.imread, cv2.imwrite, cv2.imshow = image_open, imread, imwrite, imshow
    np.set_printoptions(**printing)
    cv2.setNumThreads(threads)
    return torch, ultralytics


def _load(model: str) -> tuple[Any, Any, dict[int, str]]:
    """PyTorch, the network and the names of its classes."""
    if model.endswith(".onnx"):
        raise InputError(f"--detector=ultralytics:{model}: exported networks are named --detector=onnx:{model}")
    if Path(model).exists() or model.endswith((".yaml", ".yml")):
        os.environ.setdefault("YOLO_OFFLINE", "true")
    try:
        torch, ultralytics = import_ultralytics()
    except ImportError as error:
        raise InputError(f"--detector=ultralytics:{model} needs PyTorch and Ultralytics, which is licensed under "
                         f"AGPL-3.0 ({error}): {_INSTALL}") from None
    try:
        torch.manual_seed(0)  # of the weights that a .yaml gets: the same in every process
        loaded = ultralytics.YOLO(model, task="detect")
        head = type(loaded.model.model[-1]).__name__
        if not head.endswith("Detect"):
            raise ValueError(f"it ends in {head}, which is no detector of boxes")
        return torch, loaded.model, dict(loaded.names)
    except Exception as error:  # whatever a download, a pickle or a parser raises
        reason = str(error).strip().partition("\n")[0][:300]
        remedy = ("check the file" if Path(model).exists() else
                  f"fetch {Path(model).name} from {_RELEASES} and name the file, --detector=ultralytics:PATH")
        raise InputError(f"--detector=ultralytics:{model}: cannot be loaded ({type(error).__name__}: {reason}); "
                         f"{remedy}") from error
