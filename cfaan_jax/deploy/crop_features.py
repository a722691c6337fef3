"""Networks of single crops, such as a re-identification network in an ONNX file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.onnx_session import ImageSession

_BATCH = 32
_MEAN, _STD = np.array([(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)], np.float32)  # of ImageNet


class CropFeatures:
    """Features of a network `run`, from uint8 `[B, h, w, 3]` to `[B, d]`, for batches of one size.

    It is a linker's network, and a `ClipNetwork` whose features of a clip are the mean over its frames. `device` is the
    name of the device that it computes on, `image_size` the `(height, width)` of its images.
    """

    any_length = True

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], image_size: tuple[int, int], device: str,
                 batch: int = _BATCH):
        self.image_size, self.device = image_size, device
        self._run, self._batch = run, batch

    def features(self, crops: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Returns float32 `[n, d]`; crops are stretched to the image size, like the network's training frames."""
        batch = self._batch
        frames = np.zeros((-(-len(crops) // batch) * batch, *self.image_size, 3), np.uint8)
        for frame, crop in zip(frames, crops, strict=False):
            frame[:] = np.asarray(Image.fromarray(crop).resize(self.image_size[::-1], Image.Resampling.BILINEAR))
        parts = [self._run(frames[start:start + batch]) for start in range(0, len(frames), batch)]
        return np.concatenate([np.asarray(part, np.float32) for part in parts])[:len(crops)]

    def __call__(self, frames: ArrayLike, rectangles: ArrayLike) -> np.ndarray:
        """Features `[B, d]` of clips uint8 `[B, T, H, W, 3]`; padding counts like the rest."""
        frames = np.asarray(frames)
        return self.features(frames.reshape(-1, *frames.shape[2:])).reshape(*frames.shape[:2], -1).mean(axis=1)

    def tracklet_features(self, means: np.ndarray) -> np.ndarray:
        """The means over clips are the features of tracklets, `[N, d]`."""
        return means


class OnnxFeatures(CropFeatures):
    """Features of a re-identification network in an .onnx file that takes RGB normalised as for ImageNet.

    It has one input `[B, 3, H, W]` and one output `[B, d]`; errors name `flag`, which holds `path`. InputError if the
    file is missing, broken or has other inputs or outputs, or onnxruntime is not installed.
    """

    def __init__(self, path: Path, flag: str):
        session = ImageSession(path, flag)

        def run(frames: np.ndarray) -> np.ndarray:
            tensor = ((frames / np.float32(255) - _MEAN) / _STD).transpose(0, 3, 1, 2)
            return session.run(np.ascontiguousarray(tensor))[0]

        size = (session.size[0] or 256, session.size[1] or 128)
        super().__init__(run, size, session.device, session.batch or _BATCH)
        trial = session.run(np.zeros((self._batch, 3, *size), np.float32))[0]
        if trial.ndim != 2 or not np.isfinite(trial).all():
            raise InputError(f"{path}: gives {list(trial.shape)}{'' if np.isfinite(trial).all() else ', not finite,'} "
                             "for black images; a re-identification network gives finite features [B, d]")
