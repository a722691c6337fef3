"""Features by which linking compares persons, chosen by name.

    largest                        none: always the largest box
    ide:<workdir>                  this project's IDE classifier (`configs/ide.py`), as in the paper
    torch:<ResNet-50 weights>      any ResNet-50 with torch's names, such as torchvision's
    onnx:<re-identification file>  any network that turns crops into features, by onnxruntime
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from cfaan_jax.errors import InputError

_BATCH = 32
_IMAGENET = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))

NAMES = "ide:<workdir of a trained IDE classifier>, torch:<ResNet-50 weights>, onnx:<file> or largest"


class Linker(Protocol):
    """Describes persons by features that are near for the same person.

    Attributes:
        device: where it computes, for people.
    """

    device: str

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 `[n, d]` for n crops (uint8 `[h, w, 3]`, RGB, sizes may differ)."""


def create(spec: str) -> Linker:
    """Makes a linker from its name.

    Args:
        spec: one of the names above.

    Raises:
        InputError: unknown name, or no usable weights there.
    """
    kind, _, source = spec.partition(":")
    if kind == "largest" and not source:
        return LargestLinker()
    makers = {"ide": ide_linker, "torch": torch_linker, "onnx": OnnxLinker}
    if kind in makers and source:
        return makers[kind](Path(source))
    raise InputError(f"--linker={spec}: no such linker; choose {NAMES}")


class LargestLinker:
    """Always the largest box: all features are empty, so everybody is equally near."""

    device = "CPU"

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns `[n, 0]`."""
        return np.zeros((len(crops), 0), np.float32)


class JaxLinker:
    """Features of one of this project's networks, of single frames.

    Args:
        model: in evaluation mode, for clips of one frame.
        image_size: `(height, width)` of its frames.
    """

    def __init__(self, model, image_size: tuple[int, int]):
        # Imported here so that everything else in `data_prep` runs without loading JAX.
        import jax
        from flax import nnx

        from cfaan_jax.data import augment

        self.device = jax.default_backend().upper()
        self._size = image_size
        whole = np.tile(np.array([0, image_size[0], 0, image_size[1]], np.int32), (_BATCH, 1, 1))
        stride = model.stride
        graph, self._state = nnx.split(model)

        @jax.jit
        def extract(state, frames):
            clips, cells = augment.prepare(frames[:, None], whole, stride)
            return nnx.merge(graph, state).features(clips, cells)

        self._extract = extract

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 `[n, d]`; crops are stretched to the model's image size, as its training frames were."""
        return _in_batches(crops, self._size, _BATCH, lambda frames: self._extract(self._state, frames))


def ide_linker(workdir: Path) -> JaxLinker:
    """The IDE classifier that was trained in a folder: pool5 of a ResNet-50 trained on single frames of raw tracklets.

    Raises:
        InputError: no checkpoint there, or one of a network that needs longer clips.
    """
    from cfaan_jax.experiment import checkpoint

    model, config = checkpoint.restore_model(workdir)
    if config.data.clip_length != 1:
        raise InputError(f"--linker=ide:{workdir}: this network was trained on clips of {config.data.clip_length} "
                         "frames, but linking compares single frames; train one with --config=configs/ide.py")
    return JaxLinker(model, tuple(config.data.image_size))


def torch_linker(path: Path) -> JaxLinker:
    """A ResNet-50 from a file with torch's names, at 256 x 128 pixels; its classifier is left out, PyTorch not needed.

    Raises:
        InputError: unreadable, or no ResNet-50.
    """
    from cfaan_jax import models, weights

    size = (256, 128)
    model = models.create("ide", num_classes=1, clip_length=1, image_size=size)
    weights.load_torch(model, path, skip=("classifier.*", "bottleneck.*"))
    return JaxLinker(model, size)


class OnnxLinker:
    """Features of an exported re-identification network, which takes RGB normalised as for ImageNet.

    Args:
        path: of the .onnx file: one input `[B, 3, H, W]`, one output `[B, d]`.
        flag: that named it, for errors.

    Attributes:
        image_size: `(height, width)` that it sees.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing, broken or of another form.
    """

    def __init__(self, path: Path, flag: str = "--linker=onnx"):
        from data_prep.redetect_link.onnx_session import ImageSession

        self._session = ImageSession(path, flag)
        self.device, self._batch = self._session.device, self._session.batch or _BATCH
        rows, columns = self._session.size
        self.image_size = (rows or 256, columns or 128)
        trial = self._session.run(np.zeros((self._batch, 3, *self.image_size), np.float32))[0]
        if trial.ndim != 2 or not np.isfinite(trial).all():
            raise InputError(f"{path}: gives {list(trial.shape)}{'' if np.isfinite(trial).all() else ', not finite,'} "
                             "for black images; a re-identification network gives finite features [B, d]")

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 `[n, d]`; crops are stretched to the network's image size."""
        return _in_batches(crops, self.image_size, self._batch, self._run)

    def _run(self, frames: np.ndarray) -> np.ndarray:
        mean, deviation = _IMAGENET
        tensor = ((frames / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2)
        return self._session.run(np.ascontiguousarray(tensor))[0]


def _in_batches(crops: Sequence[np.ndarray], size: tuple[int, int], batch: int,
                features: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Features of crops resized to `size`; every call has the same shape, so that a network is compiled once."""
    frames = np.zeros((-(-len(crops) // batch) * batch, *size, 3), np.uint8)
    for frame, crop in zip(frames, crops, strict=False):
        frame[:] = Image.fromarray(crop).resize(size[::-1], Image.Resampling.BILINEAR)
    parts = [features(frames[start:start + batch]) for start in range(0, len(frames), batch)]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])[:len(crops)]
