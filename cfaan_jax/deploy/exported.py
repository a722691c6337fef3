"""A network that `cfaan_jax.export` wrote, read back; what it computes is in the file, none of `cfaan_jax.models`."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import jax
import numpy as np
from jax import export

from cfaan_jax.data.clips import MODES
from cfaan_jax.errors import InputError
from cfaan_jax.metrics.search import DISTANCES
from cfaan_jax.models.heads import tracklet_feature
from cfaan_jax.runtime.files import check_types

NETWORK, DESCRIPTION, WEIGHTS = "network.stablehlo", "network.json", "network.safetensors"
ONNX, SAVED_MODEL = "network.onnx", "saved_model"
CHECKSUM = "sha256 of " + NETWORK  # in the description


def checksum(content: bytes) -> str:
    """By which damage of the network's file is found."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Description:
    """What a program must know beside the file of a network.

    Attributes:
        network: its name.
        weights: see `evaluate.evaluate`.
        clip_length: T, with which it was trained; any_length: whether it takes clips of other lengths as well.
        image_size: (H, W) in pixels.
        masks: whether it looks at the rectangles of real pixels at all.
        feature_size: D, in `branches` equal parts.
        clips: which clips stand for a tracklet, see `data.clips.test_clips`.
        distance: by which features of tracklets are compared, "cosine" or "euclidean".
    """

    network: str
    weights: str
    clip_length: int
    any_length: bool
    image_size: tuple[int, int]
    masks: bool
    feature_size: int
    branches: int
    clips: str
    distance: str


def _check(description: Description) -> None:
    """Raises ValueError for a description that no export has."""
    check_types(description)
    numbers = (description.clip_length, description.branches, description.feature_size, *description.image_size)
    if len(description.image_size) != 2 or not all(type(each) is int and each > 0 for each in numbers) or (
            description.feature_size % description.branches):
        raise ValueError(f"sizes {numbers}")
    if description.clips not in MODES or description.distance not in DISTANCES:
        raise ValueError(f"clips {description.clips}, distance {description.distance}")


class ExportedNetwork:
    """Stands for a `VideoReID` wherever features are taken.

    Args:
        content: of the file of the network.
        description: of the network.

    Attributes:
        any_length: whether it takes clips of any length.
        exported: the network as JAX has it.
    """

    def __init__(self, content: bytes, description: Description):
        self.description, self.any_length = description, description.any_length
        self.exported = export.deserialize(bytearray(content))
        self._call = jax.jit(self.exported.call)

    @classmethod
    def open(cls, folder: str | Path) -> "ExportedNetwork":
        """Reads a folder that `--mode=export` wrote; InputError if it is none, or a damaged one."""
        folder = Path(folder)
        try:
            described = json.loads((folder / DESCRIPTION).read_text())
            own = {field.name: described[field.name] for field in fields(Description)}
            description = Description(**own | {"image_size": tuple(own["image_size"])})
            _check(description)
            content = (folder / NETWORK).read_bytes()
            if described[CHECKSUM] != checksum(content):
                raise ValueError(f"{NETWORK} is not the file that was written")
            return cls(content, description)
        except OSError as error:
            raise InputError(f"{folder}: no exported network ({error.strerror}: {error.filename}); name the folder "
                             "that --mode=export wrote") from None
        except Exception as error:  # what a damaged file raises in jax.export is not documented
            raise InputError(f"{folder}: the exported network is damaged ({type(error).__name__}: {error}); write it "
                             "again with --mode=export") from error

    def __call__(self, frames: jax.Array, rectangles: jax.Array) -> jax.Array:
        """What is averaged over the clips of a tracklet.

        Args:
            frames: uint8 `[B, T, H, W, 3]`, RGB.
            rectangles: int32 `[B, T, 4]`, (y0, y1, x0, x1) of real pixels, end exclusive.

        Returns:
            float32 `[B, D]`.
        """
        return self._call(frames, rectangles)

    def tracklet_features(self, means: np.ndarray) -> jax.Array:
        """The features of tracklets from the means over their clips, `[N, D]` each."""
        return tracklet_feature(means, self.description.branches)
