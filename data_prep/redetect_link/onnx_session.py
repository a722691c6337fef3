"""Opens ONNX files with onnxruntime, which is an extra: `pip install -r data_prep/requirements-onnx.txt`."""

from pathlib import Path
from typing import Any

import numpy as np

from cfaan_jax.errors import InputError

_DEVICES = {"CUDAExecutionProvider": "CUDA", "CPUExecutionProvider": "CPU"}  # the preferred one first
_ERRORS_ONLY = 4  # fatal ones: the others are raised as well


class ImageSession:
    """A network with one input, float32 images `[B, 3, H, W]`, opened for inference; threads may share it.

    Args:
        path: of the .onnx file; a .data file that belongs to it lies beside it.
        flag: that named it, for errors.

    Attributes:
        device: it computes on.
        batch, size: the fixed lengths of its input, B and (H, W); None where it takes any.
        outputs: the shapes of its outputs, as the file declares them.
        metadata: what else the file says.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing, broken or takes something else.
    """

    def __init__(self, path: Path, flag: str):
        self._path, self._session = path, _open(path, flag)
        self.device = _DEVICES[self._session.get_providers()[0]]
        self.metadata = self._session.get_modelmeta().custom_metadata_map
        self.outputs = [output.shape for output in self._session.get_outputs()]
        inputs = self._session.get_inputs()
        shape = [length if isinstance(length, int) else None for length in inputs[0].shape] if inputs else []
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(shape) != 4 or shape[1] not in (3, None):
            found = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs) or "nothing"
            raise InputError(f"{path}: takes {found}, but a network for images takes one float32 tensor [B, 3, H, W]; "
                             "export it so")
        self._input, self.batch, self.size = inputs[0].name, shape[0], (shape[2], shape[3])

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Outputs for images `[B, 3, H, W]`, each with an entry an image.

        Raises:
            InputError: the network cannot compute them, or its outputs have no entry for each image.
        """
        try:
            outputs = self._session.run(None, {self._input: images})
        except Exception as error:  # its errors have no common class but this
            reason = str(error).strip().partition("\n")[0][:300]
            raise InputError(f"{self._path}: cannot compute images of shape {list(images.shape)} ({reason}); give "
                             "another size, or export the network again") from error
        if any(np.ndim(output) == 0 or len(output) != len(images) for output in outputs):
            shapes = ", ".join(str(list(np.shape(output))) for output in outputs)
            raise InputError(f"{self._path}: gives outputs of shape {shapes} for {len(images)} images; a network for "
                             "images gives one entry for each; export it so")
        return outputs


def _open(path: Path, flag: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{flag} needs onnxruntime: pip install -r data_prep/requirements-onnx.txt "
                         "(onnxruntime-gpu in its place on a GPU)") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the network as {flag}:<file>.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    providers = [name for name in _DEVICES if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its errors have no common class but this
        reason = str(error).strip().partition("\n")[0][:300]
        raise InputError(f"{path}: onnxruntime cannot open this network ({reason}); fetch it again, with its .data "
                         "file if it has one") from error
