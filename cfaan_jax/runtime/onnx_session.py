"""Opens ONNX files with onnxruntime, an extra: `pip install -r data_prep/requirements-onnx.txt`."""

from pathlib import Path
from typing import Any

import numpy as np

from cfaan_jax.errors import InputError

_DEVICES = {"CUDAExecutionProvider": "CUDA", "CPUExecutionProvider": "CPU"}  # the preferred one first
_FATAL_ONLY = 4  # other errors are logged and raised


class ImageSession:
    """A network with one input, float32 images `[B, 3, H, W]`, opened for inference; threads may share it.

    `path` is the .onnx file, beside its .data file if it has one; errors name `flag`, which holds the path.

    Attributes:
        device: name of the device that it computes on.
        batch, size: the fixed lengths of its input, B and (H, W); None where it takes any.
        metadata: the custom metadata of the file.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing, broken or has other inputs.
    """

    def __init__(self, path: Path, flag: str):
        self._path, self._session = path, _open(path, flag)
        self.device = _DEVICES[self._session.get_providers()[0]]
        self.metadata = self._session.get_modelmeta().custom_metadata_map
        inputs = self._session.get_inputs()
        shape = [length if isinstance(length, int) else None for length in inputs[0].shape] if inputs else []
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(shape) != 4 or shape[1] not in (3, None):
            declared = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs[:5]) or "no input"
            raise InputError(f"{path}: takes {declared}, but a network for images takes one float32 tensor "
                             "[B, 3, H, W]; export one like that")
        self._input, self.batch, self.size = inputs[0].name, shape[0], (shape[2], shape[3])

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """The outputs for images `[B, 3, H, W]`; InputError if there are none, or one has another first axis than B."""
        try:
            outputs = self._session.run(None, {self._input: images})
        except Exception as error:  # its errors share no narrower class
            reason = str(error).strip().partition("\n")[0][:300]
            raise InputError(f"{self._path}: cannot compute images of shape {list(images.shape)} ({reason}); "
                             "choose another size, or export the network again") from error
        if any(np.ndim(output) == 0 or len(output) != len(images) for output in outputs):
            shapes = ", ".join(str(list(np.shape(output))) for output in outputs[:5])
            raise InputError(f"{self._path}: gives outputs of shape {shapes} for {len(images)} images; the first axis "
                             "must count the images; export it like that")
        return outputs


def _open(path: Path, flag: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"{flag} needs onnxruntime: pip install -r data_prep/requirements-onnx.txt "
                         "(onnxruntime-gpu in its place on a GPU)") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the network as {flag}:<file>.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    providers = [name for name in _DEVICES if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its errors share no narrower class
        reason = str(error).strip().partition("\n")[0][:300]
        raise InputError(f"{path}: onnxruntime cannot open this network ({reason}); fetch it again, with its .data "
                         "file if it has one") from error
