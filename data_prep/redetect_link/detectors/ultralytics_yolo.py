"""Any YOLO that Ultralytics loads, run by PyTorch. Ultralytics and its weights are licensed under AGPL-3.0.

The package is an extra and imported only here. Weights in .pt files are Python pickles: loading one can run code, so
load only files whose source you trust.
"""

import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from cfaan_jax.errors import InputError
from data_prep.redetect_link.detectors.boxes import check_input_size
from data_prep.redetect_link.detectors.exports import ExportedDetector, person_class, recognise

_BATCH = {"cpu": 8, "cuda": 64}
_INSTALL = "pip install torch torchvision && pip install --no-deps -r data_prep/requirements-ultralytics.txt"
_RELEASES = "https://github.com/ultralytics/assets/releases"


class UltralyticsDetector(ExportedDetector):
    """A detector by Ultralytics, on a GPU if PyTorch sees one.

    Args:
        model: a .pt file, a .yaml file (random weights), or the bare name of one that Ultralytics knows, such as
            yolo11n.pt, which it downloads if the current folder does not hold it.
        confidence, nms, input_size: see `detectors.create`.

    Raises:
        InputError: Ultralytics is not installed, or the model cannot be loaded or does not detect persons.
    """

    def __init__(self, model: str, confidence: float = 0.3, nms: float = 0.45,
                 input_size: tuple[int, int] = (256, 128)):
        check_input_size(input_size)
        self._torch, network, names = _load(model)
        self._where = "cuda" if self._torch.cuda.is_available() else "cpu"
        self.device = self._where.upper()
        self._network = network.to(self._where).eval()
        self._lock = threading.Lock()  # the network caches its grid, so one thread at a time runs it
        family = recognise(self._run(np.full((1, 3, *input_size), 0.45, np.float32)), input_size)
        person = person_class(len(names), names)
        if family is None or person is None:
            raise InputError(f"--detector=ultralytics:{model}: not a detector with a class 'person'; choose one, such "
                             "as yolo11n.pt")
        super().__init__(family, person, confidence, nms, input_size, _BATCH[self._where])

    def _run(self, tensor: np.ndarray) -> list[np.ndarray]:
        with self._lock, self._torch.inference_mode():
            output = self._network(self._torch.from_numpy(tensor).to(self._where))
        output = output[0] if isinstance(output, (tuple, list)) else output  # boxes with scores
        return [output.float().cpu().numpy()]


def import_ultralytics() -> tuple[Any, Any]:
    """Returns PyTorch and Ultralytics, with the functions of OpenCV, Pillow and NumPy that it replaces put back.

    Its own function would try to install a package when an image is broken, for instance.

    Raises:
        ImportError: one of them is not installed.
    """
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # it would call pip
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))  # it would set 1 for the whole process
    image_open, imread, imwrite, imshow = Image.open, cv2.imread, cv2.imwrite, cv2.imshow
    printing, threads = np.get_printoptions(), cv2.getNumThreads()
    import torch
    import ultralytics
    ultralytics.YOLO  # noqa: B018  imports lazily, and must do so before things are put back
    Image.open, cv2.imread, cv2.imwrite, cv2.imshow = image_open, imread, imwrite, imshow
    np.set_printoptions(**printing)
    cv2.setNumThreads(threads)
    return torch, ultralytics


def _load(model: str) -> tuple[Any, Any, dict[int, str]]:
    """Returns PyTorch, the network and the names of its classes."""
    if model.endswith(".onnx"):
        raise InputError(f"--detector=ultralytics:{model}: name an exported network as --detector=onnx:{model}")
    if Path(model).exists() or model.endswith((".yaml", ".yml")):
        os.environ.setdefault("YOLO_OFFLINE", "true")
    try:
        torch, ultralytics = import_ultralytics()
    except ImportError as error:
        raise InputError(f"--detector=ultralytics:{model} needs PyTorch and Ultralytics, which is licensed under "
                         f"AGPL-3.0 ({error}): {_INSTALL}") from None
    try:
        torch.manual_seed(0)  # the weights of a .yaml are the same in every process
        loaded = ultralytics.YOLO(model, task="detect")
        head = type(loaded.model.model[-1]).__name__
        if not head.endswith("Detect"):
            raise ValueError(f"its head {head} is not a detector of boxes")
        return torch, loaded.model, dict(loaded.names)
    except Exception as error:  # whatever a download, a pickle or a parser raises
        reason = str(error).strip().partition("\n")[0][:300]
        remedy = ("check the file" if Path(model).exists() else
                  f"fetch {Path(model).name} from {_RELEASES} and name the file, --detector=ultralytics:PATH")
        raise InputError(f"--detector=ultralytics:{model}: cannot be loaded ({type(error).__name__}: {reason}); "
                         f"{remedy}") from error
