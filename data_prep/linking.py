"""Link: which of the detected persons is the one the tracklet follows (paper, section 3.1).

The person is the largest box of the first frame that has one; afterwards it is the candidate whose feature is
nearest, by Euclidean distance, to the moving average `f_g = 0.9 f_g + 0.1 f` of the chosen features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from cfaan_jax.errors import InputError

_BATCH = 32


class Linker(Protocol):
    """Describes persons by features that are near for the same person."""

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 `[n, d]` for n crops (uint8 `[h, w, 3]`, RGB, sizes may differ)."""


def create(spec: str) -> Linker:
    """Makes a linker from its name: `ide:<workdir>` or `largest`.

    Raises:
        InputError: unknown name, or no usable checkpoint in the folder.
    """
    kind, _, workdir = spec.partition(":")
    if kind == "largest" and not workdir:
        return LargestLinker()
    if kind == "ide" and workdir:
        return IdeLinker(Path(workdir))
    raise InputError(f"--linker={spec}: no such linker; choose largest or ide:<workdir of a trained IDE classifier>")


def link(candidate_features: Sequence[np.ndarray], boxes: Sequence[np.ndarray],
         momentum: float = 0.9) -> list[int | None]:
    """Chooses one candidate per frame.

    Args:
        candidate_features: per frame `[n_i, d]`.
        boxes: per frame `[n_i, 4]`, `(y0, y1, x0, x1)`. Of equally near candidates the larger one is taken, of
            equally large ones the first.
        momentum: share of the moving average that is kept at each frame.

    Returns:
        Per frame the index of the chosen candidate, None where there is none.
    """
    follower = _Follower(momentum)
    choices: list[int | None] = []
    for features, candidates in zip(candidate_features, boxes, strict=True):
        if len(candidates) == 0:
            choices.append(None)
            continue
        choice = int(np.lexsort((-_areas(candidates), follower.distances(features)))[0])
        follower.update(features[choice])
        choices.append(choice)
    return choices


def link_distances(candidate_features: Sequence[np.ndarray], choices: Sequence[int | None],
                   momentum: float = 0.9) -> list[np.ndarray]:
    """Returns for each frame the distances `[n_i]` that `link` compared; zeros in the first frame with a candidate."""
    follower = _Follower(momentum)
    distances = []
    for features, choice in zip(candidate_features, choices, strict=True):
        distances.append(follower.distances(features))
        if choice is not None:
            follower.update(features[choice])
    return distances


class _Follower:
    """The moving average of the followed person's feature; before the first feature everybody is equally near."""

    def __init__(self, momentum: float):
        self._momentum = momentum
        self._average: np.ndarray | None = None

    def distances(self, features: np.ndarray) -> np.ndarray:
        if self._average is None:
            return np.zeros(len(features))
        return np.linalg.norm(features.astype(np.float64) - self._average, axis=1)

    def update(self, feature: np.ndarray) -> None:
        feature = feature.astype(np.float64)
        if self._average is None:
            self._average = feature
        else:
            self._average = self._momentum * self._average + (1 - self._momentum) * feature


class LargestLinker:
    """Always the largest box: all features are empty, so everybody is equally near."""

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns `[n, 0]`."""
        return np.zeros((len(crops), 0), np.float32)


class IdeLinker:
    """Features of this project's IDE classifier (pool5 of a ResNet-50 trained on single frames of the raw tracklets).

    Args:
        workdir: training folder of the classifier (`configs/ide.py`).

    Raises:
        InputError: no checkpoint there, or one of a network that needs longer clips.
    """

    def __init__(self, workdir: Path):
        # Imported here so that everything else in `data_prep` runs without loading JAX.
        import jax
        from flax import nnx

        from cfaan_jax import checkpoint
        from cfaan_jax.data import augment

        model, config = checkpoint.restore_model(workdir)
        if config.data.clip_length != 1:
            raise InputError(f"--linker=ide:{workdir}: this network was trained on clips of {config.data.clip_length} "
                             "frames, but linking compares single frames; train one with --config=configs/ide.py")
        self._size = tuple(config.data.image_size)
        whole = np.tile(np.array([0, self._size[0], 0, self._size[1]], np.int32), (_BATCH, 1, 1))
        stride = model.stride
        graph, self._state = nnx.split(model)

        @jax.jit
        def extract(state, frames):
            clips, cells = augment.prepare(frames[:, None], whole, stride)
            return nnx.merge(graph, state).features(clips, cells)

        self._extract = extract

    def features(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Returns float32 `[n, d]`; crops are stretched to the model's image size, as its training frames were."""
        frames = np.zeros((-(-len(crops) // _BATCH) * _BATCH, *self._size, 3), np.uint8)
        for frame, crop in zip(frames, crops, strict=False):
            frame[:] = Image.fromarray(crop).resize(self._size[::-1], Image.Resampling.BILINEAR)
        # Every call has the same shape, so the network is compiled once.
        batches = [self._extract(self._state, frames[start:start + _BATCH]) for start in range(0, len(frames), _BATCH)]
        return np.concatenate([np.asarray(batch, np.float32) for batch in batches])[:len(crops)]


def _areas(boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    return (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
