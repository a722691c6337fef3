"""Linkers: the features by which linking compares persons (paper, section 3.1), chosen by name.

    largest                        no features: always the largest box
    ide:<workdir>                  this project's IDE classifier (`configs/ide.py`), as in the paper
    torch:<ResNet-50 weights>      any ResNet-50 with torch's names, such as torchvision's
    onnx:<re-identification file>  any network from crops to features, by onnxruntime
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
    """Computes features that are near for the same person.

    Attributes:
        device: name of the device that it computes on.
    """

    device: str

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 `[n, d]` for n crops (uint8 `[h, w, 3]`, RGB, sizes may differ)."""


def create(spec: str) -> Linker:
    """Creates a linker from its name.

    Args:
        spec: one of the names above.

    Raises:
        InputError: unknown name, or weights that cannot be loaded.
    """
    kind, _, source = spec.partition(":")
    if kind == "largest" and not source:
        return LargestLinker()
    constructors = {"ide": ide_linker, "torch": torch_linker, "onnx": OnnxLinker}
    if kind in constructors and source:
        return constructors[kind](Path(source))
    raise InputError(f"--linker={spec}: unknown linker; choose {NAMES}")


class LargestLinker:
    """Always the largest box: all features are empty, so all persons are equally near."""

    device = "CPU"

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns `[n, 0]`."""
        return np.zeros((len(crops), 0), np.float32)


class NetworkLinker:
    """Features of a network `run`, from uint8 `[B, h, w, 3]` to `[B, d]`, for batches of one size.

    Attributes:
        device: name of the device that it computes on.
        image_size: `(height, width)` of its images.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], image_size: tuple[int, int], batch: int, device: str):
        self.image_size, self.device = image_size, device
        self._run, self._batch = run, batch

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 `[n, d]`; crops are stretched to the image size, like the network's training frames."""
        batch = self._batch
        frames = np.zeros((-(-len(crops) // batch) * batch, *self.image_size, 3), np.uint8)
        for frame, crop in zip(frames, crops, strict=False):
            frame[:] = Image.fromarray(crop).resize(self.image_size[::-1], Image.Resampling.BILINEAR)
        parts = [self._run(frames[start:start + batch]) for start in range(0, len(frames), batch)]
        return np.concatenate([np.asarray(part, np.float32) for part in parts])[:len(crops)]


def _jax_linker(model, image_size: tuple[int, int]) -> NetworkLinker:
    """Features of single frames from one of this project's networks, `model`, in evaluation mode."""
    # Imported here so that the rest of `data_prep` runs without JAX.
    import jax
    from flax import nnx

    from cfaan_jax.data import augment

    whole = np.tile(np.array([0, image_size[0], 0, image_size[1]], np.int32), (_BATCH, 1, 1))
    stride = model.stride
    graph, state = nnx.split(model)

    @jax.jit
    def extract(state, frames):
        clips, cells = augment.prepare(frames[:, None], whole, stride)
        return nnx.merge(graph, state).features(clips, cells)

    return NetworkLinker(lambda frames: extract(state, frames), image_size, _BATCH, jax.default_backend().upper())


def ide_linker(workdir: Path) -> NetworkLinker:
    """The IDE classifier trained in `workdir`: pool5 of a ResNet-50 trained on single frames of raw tracklets.

    Raises:
        InputError: no checkpoint in it, or a network of longer clips.
    """
    from cfaan_jax.experiment import checkpoint

    model, config = checkpoint.restore_model(workdir)
    if config.data.clip_length != 1:
        raise InputError(f"--linker=ide:{workdir}: its network was trained on clips of {config.data.clip_length} "
                         "frames, and linking compares single frames; train one with --config=configs/ide.py")
    return _jax_linker(model, tuple(config.data.image_size))


def torch_linker(path: Path) -> NetworkLinker:
    """A ResNet-50 without its classifier, from a file with torch's names, at 256 x 128 pixels; PyTorch is not needed.

    Raises:
        InputError: an unreadable file, or another network.
    """
    from cfaan_jax import models, weights

    size = (256, 128)
    model = models.create("ide", num_classes=1, clip_length=1, image_size=size)
    weights.load_torch(model, path, skip=("classifier.*", "bottleneck.*"))
    return _jax_linker(model, size)


class OnnxLinker(NetworkLinker):
    """Features of an exported re-identification network that takes RGB normalised as for ImageNet.

    Args:
        path: of the .onnx file: one input `[B, 3, H, W]`, one output `[B, d]`.
        flag: the flag that holds `path`, for errors.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing, broken or has other inputs or outputs.
    """

    def __init__(self, path: Path, flag: str = "--linker=onnx"):
        from data_prep.redetect_link.onnx_session import ImageSession

        session = ImageSession(path, flag)
        mean, deviation = _IMAGENET

        def extract(frames: np.ndarray) -> np.ndarray:
            tensor = ((frames / np.float32(255) - mean) / deviation).transpose(0, 3, 1, 2)
            return session.run(np.ascontiguousarray(tensor))[0]

        size = (session.size[0] or 256, session.size[1] or 128)
        super().__init__(extract, size, session.batch or _BATCH, session.device)
        trial = session.run(np.zeros((self._batch, 3, *size), np.float32))[0]
        if trial.ndim != 2 or not np.isfinite(trial).all():
            raise InputError(f"{path}: gives {list(trial.shape)}{'' if np.isfinite(trial).all() else ', not finite,'} "
                             "for black images; a re-identification network gives finite features [B, d]")
