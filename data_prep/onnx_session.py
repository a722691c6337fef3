"""Opens ONNX files with onnxruntime, which is an extra: `pip install -r data_prep/requirements-onnx.txt`."""

from pathlib import Path
from typing import Any

from cfaan_jax.errors import InputError

_DEVICES = {"CUDAExecutionProvider": "CUDA", "CPUExecutionProvider": "CPU"}  # the preferred one first
_ERRORS_ONLY = 3


def open_session(path: Path, flag: str) -> tuple[Any, str]:
    """Opens a network for inference.

    Args:
        path: of the .onnx file; a .data file that belongs to it lies beside it.
        flag: that named it, for the error when onnxruntime is missing.

    Returns:
        An `onnxruntime.InferenceSession` and the device that it computes on.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing or broken.
    """
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
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its errors have no common class but this
        reason = str(error).strip().partition("\n")[0][:300]
        raise InputError(f"{path}: onnxruntime cannot open this network ({reason}); fetch it again, with its .data "
                         "file if it has one") from error
    return session, _DEVICES[session.get_providers()[0]]
