"""Linkers: the features by which linking compares persons (paper, section 3.1), chosen by name.

    largest                        no features: always the largest box
    ide:<workdir>                  this project's IDE classifier (`configs/ide.py`), as in the paper
    torch:<ResNet-50 weights>      any ResNet-50 with torch's names, such as torchvision's
    onnx:<re-identification file>  any network from crops to features, by onnxruntime
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from cfaan_jax.deploy.crop_features import CropFeatures, OnnxFeatures
from cfaan_jax.errors import InputError

_BATCH = 32

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
    constructors = {"ide": ide_linker, "torch": torch_linker, "onnx": lambda path: OnnxFeatures(path, "--linker=onnx")}
    if kind in constructors and source:
        return constructors[kind](Path(source))
    raise InputError(f"--linker={spec}: unknown linker; choose {NAMES}")


class LargestLinker:
    """Always the largest box: all features are empty, so all persons are equally near."""

    device = "CPU"

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns `[n, 0]`."""
        return np.zeros((len(crops), 0), np.float32)


def _jax_linker(model, image_size: tuple[int, int]) -> CropFeatures:
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

    return CropFeatures(lambda frames: extract(state, frames), image_size, jax.default_backend().upper(), _BATCH)


def ide_linker(workdir: Path) -> CropFeatures:
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


def torch_linker(path: Path) -> CropFeatures:
    """A ResNet-50 without its classifier, from a file with torch's names, at 256 x 128 pixels; PyTorch is not needed.

    Raises:
        InputError: an unreadable file, or another network.
    """
    from cfaan_jax import models, weights

    size = (256, 128)
    model = models.create("ide", num_classes=1, clip_length=1, image_size=size)
    weights.load_torch(model, path, skip=("classifier.*", "bottleneck.*"))
    return _jax_linker(model, size)
