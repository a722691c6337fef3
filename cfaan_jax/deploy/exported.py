"""A network that `--mode=export` wrote, read back; the file holds the program, so `cfaan_jax.models` is not needed."""

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import jax
import numpy as np
from jax import export

from cfaan_jax.data.clips import MODES
from cfaan_jax.errors import InputError, reason
from cfaan_jax.metrics.search import DISTANCES
from cfaan_jax.models.heads import tracklet_feature
from cfaan_jax.runtime.files import check_types

NETWORK, DESCRIPTION, WEIGHTS = "network.stablehlo", "network.json", "network.safetensors"
ONNX, SAVED_MODEL = "network.onnx", "saved_model"
CHECKSUM = "sha256 of " + NETWORK  # field of the description


def checksum(content: bytes) -> str:
    """Of the network's file, to detect damage."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Description:
    """What a program must know to use the file of a network."""

    network: str  # its name
    weights: str  # "last", "best", "untrained" or "pretrained"
    clip_length: int  # T of its training
    any_length: bool  # whether it takes clips of other lengths
    image_size: tuple[int, int]  # (H, W) in pixels
    masks: bool  # whether it uses the rectangles of real pixels
    feature_size: int  # D, in `branches` equal parts
    branches: int
    clips: str  # which clips represent a tracklet, see `data.clips.test_clips`
    distance: str  # for comparing features of tracklets, "cosine" or "euclidean"


def _check(description: Description) -> None:
    """Raises ValueError for a description that no export has."""
    check_types(description)
    sizes = (description.clip_length, description.branches, description.feature_size, *description.image_size)
    if len(description.image_size) != 2 or not all(type(size) is int and size > 0 for size in sizes) or (
            description.feature_size % description.branches):
        raise ValueError(f"sizes {sizes}")
    if description.clips not in MODES or description.distance not in DISTANCES:
        raise ValueError(f"clips {description.clips}, distance {description.distance}")


class ExportedNetwork:
    """A `ClipNetwork` from the content of a network's file; `exported` is the deserialised `jax.export.Exported`."""

    def __init__(self, content: bytes, description: Description):
        self.description, self.any_length = description, description.any_length
        self.exported = export.deserialize(bytearray(content))
        self._call = jax.jit(self.exported.call)

    @classmethod
    def open(cls, folder: str | Path) -> "ExportedNetwork":
        """Reads a folder that `--mode=export` wrote; InputError if it holds no export, or a damaged one."""
        folder = Path(folder)
        try:
            about = json.loads((folder / DESCRIPTION).read_text())
            values = {field.name: about[field.name] for field in fields(Description)}
            description = Description(**values | {"image_size": tuple(values["image_size"])})
            _check(description)
            content = (folder / NETWORK).read_bytes()
            if about[CHECKSUM] != checksum(content):
                raise ValueError(f"{NETWORK} is not the file that was written")
            return cls(content, description)
        except OSError as error:
            raise InputError(f"{folder}: no exported network ({error.strerror}: {error.filename}); name the folder "
                             "that --mode=export wrote") from None
        except Exception as error:  # jax.export does not document what it raises for a damaged file
            raise InputError(f"{folder}: the exported network is damaged ({reason(error)}); export it again") from error

    def __call__(self, frames: jax.Array, rectangles: jax.Array) -> jax.Array:
        """Clip features float32 `[B, D]` of frames uint8 `[B, T, H, W, 3]` and rectangles int32 `[B, T, 4]`."""
        return self._call(frames, rectangles)

    def tracklet_features(self, means: np.ndarray) -> jax.Array:
        """Tracklet features `[N, D]` from means over clip features `[N, D]`."""
        return tracklet_feature(means, self.description.branches)
