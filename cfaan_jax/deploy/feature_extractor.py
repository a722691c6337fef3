"""Features of tracklets for other programs: the numbers of `--mode=evaluate`, without records or a config."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from cfaan_jax import models, weights
from cfaan_jax.data.clips import MODES
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklets import Frame, ImageTracklets, Tracklet, crop_video
from cfaan_jax.deploy.crop_features import OnnxFeatures
from cfaan_jax.deploy.exported import DESCRIPTION, ExportedNetwork
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate.features import ClipNetwork, check_finite, extract, iter_clip_features
from cfaan_jax.experiment.checkpoint import restore_model
from cfaan_jax.metrics import whitening
from cfaan_jax.metrics.distances import DISTANCES
from cfaan_jax.models import VideoReID

Tracklets = Mapping[str, Tracklet] | Sequence[Tracklet] | RecordSet


class Features(NamedTuple):
    """The ids of N tracklets (of records their names) and their features, float32 `[N, D]`, not normalised.

    Compare them by their cosine, those of ftwft by their Euclidean distance.
    """

    ids: list[str]
    features: np.ndarray


class TrackletAligner(Protocol):
    """What runs Re-Detect and Link (paper, section 3.1), such as `data_prep.redetect_link.RedetectLink`."""

    def align(self, frames: Sequence[np.ndarray]) -> tuple[Sequence[Frame], np.ndarray]:
        """Cuts every frame of a tracklet, uint8 `[h, w, 3]`, RGB, of any sizes, around the person it follows.

        Returns as many frames, arrays or image files as bytes; and int32 `[T, 4]`, the rectangles `(y0, y1, x0, x1)` of
        their real pixels, end exclusive.
        """


class FeatureExtractor:
    """Turns tracklets into features; made by `open`, by another `from_...`, or from a network.

    It takes clips, fills batches and divides them over all devices as an evaluation does. Records hold JPEG files:
    images that are not compressed give other numbers here than after packing into records.

    Examples:
        >>> import numpy as np
        >>> from cfaan_jax import FeatureExtractor, models
        >>> small = models.create("c2d", num_classes=5, clip_length=2, image_size=(32, 16), width=8,
        ...                       depths=(1, 1, 1, 1))
        >>> extractor = FeatureExtractor(small, clip_length=2, image_size=(32, 16))
        >>> found = extractor({"anna": np.zeros((3, 64, 32, 3), np.uint8), "ben": np.ones((2, 50, 20, 3), np.uint8)})
        features of 2 tracklets: 1/1 ...
        >>> found.ids, found.features.shape
        (['anna', 'ben'], (2, 256))

    Args:
        model: the network, in evaluation mode.
        clip_length, image_size: T and (H, W) of the network's input.
        clips: which clips represent a tracklet, see `data.clips.test_clips`.
        batch_size: clips in a batch; rounded up to a multiple of the number of devices. `workers` threads read them.
        redetect_link: runs Re-Detect and Link on images first, see `TrackletAligner`. Record sets stay as they are.
        distance: for comparing the features, "cosine" or "euclidean".
        detector, linker: were names of Re-Detect and Link; InputError if they are used, use `redetect_link`.
    """

    def __init__(self, model: VideoReID | ClipNetwork, *, clip_length: int, image_size: tuple[int, int],
                 clips: str = "all_sampled", batch_size: int = 32, workers: int = 2,
                 redetect_link: TrackletAligner | None = None, distance: str = "cosine",
                 detector: str | None = None, linker: str | None = None):
        detector = redetect_link if isinstance(redetect_link, str) else detector
        if detector is not None or linker is not None:
            names = f"detector={detector or 'hog'!r}, linker={linker or 'largest'!r}"
            raise InputError(f"{names}: removed; type redetect_link=RedetectLink({names})\n"
                             "after: from data_prep.redetect_link import RedetectLink")
        if clips not in MODES or distance not in DISTANCES:
            raise InputError(f"clips={clips!r}, distance={distance!r}: clips is one of {', '.join(MODES)}; distance is "
                             f"one of {', '.join(DISTANCES)}")
        if min(batch_size, workers, clip_length, *image_size) < 1:
            raise InputError(f"{batch_size=}, {workers=}, {clip_length=}, {image_size=}: all must be at least 1")
        self._model, self._redetect_link, self.clips, self.distance = model, redetect_link, clips, distance
        devices = jax.device_count()
        self._settings: dict[str, Any] = dict(
            clips=clips, clip_length=clip_length, image_size=tuple(image_size), workers=workers,
            batch_size=-(-batch_size // devices) * devices)

    @classmethod
    def open(cls, path: str | Path, **options) -> "FeatureExtractor":
        """The network in a workdir, a folder that `--mode=export` wrote, an .onnx file, or a file with torch's names.

        The options are those of the `from_...` that takes it. InputError for no such path, or none of these.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path}: no weights there; name a workdir, an export, an .onnx file of a "
                             "re-identification network, or weights with torch's names (.pth, .safetensors)")
        if path.is_dir():
            return (cls.from_export if (path / DESCRIPTION).exists() else cls.from_workdir)(path, **options)
        return (cls.from_onnx if path.suffix == ".onnx" else cls.from_torch)(path, **options)

    @classmethod
    def from_workdir(cls, workdir: str | Path, which: str = "last", **options) -> "FeatureExtractor":
        """The "last" or "best" network that was trained in a folder; InputError if it holds no such checkpoint.

        The options are those of the class; they override the config.
        """
        model, config = restore_model(workdir, which)
        return cls(model, **dict(clip_length=config.data.clip_length, image_size=config.data.image_size,
                                 clips=config.eval.clips, batch_size=config.eval.batch,
                                 workers=config.data.workers, distance=config.eval.distance) | options)

    @classmethod
    def from_torch(cls, path: str | Path, name: str = "cfaan", *, clip_length: int = 6,
                   image_size: tuple[int, int] = (256, 128), network: Mapping | None = None,
                   **options) -> "FeatureExtractor":
        """A network with weights from a file with torch's names; torch is not needed.

        Args:
            path: see `weights.load_torch`; its classifier is left out. InputError for a damaged file or other weights.
            name: one of `models.SYSTEMS`.
            clip_length, image_size: as in the training of the network.
            network: more arguments of `models.create`, such as dict(scales=4, heads=8, positional="relative").
            **options: of the class.
        """
        model = models.create(name, num_classes=1, clip_length=clip_length, image_size=image_size, **(network or {}))
        try:
            weights.load_torch(model, path, skip=[weights.classifier_of(model)])
        except InputError as error:
            raise InputError(f"{error}; it was opened as name={name!r} with network={network or {}}") from None
        return cls(model, clip_length=clip_length, image_size=image_size, **options)

    @classmethod
    def from_export(cls, folder: str | Path, **options) -> "FeatureExtractor":
        """The network in a folder that `--mode=export` wrote; InputError if it holds no export, or a damaged one.

        The options are those of the class, except clip_length and image_size, which the export has.
        """
        network = ExportedNetwork.open(folder)
        about = network.description
        return cls(network, clip_length=about.clip_length, image_size=about.image_size,
                   **dict(clips=about.clips, distance=about.distance) | options)

    @classmethod
    def from_onnx(cls, path: str | Path, **options) -> "FeatureExtractor":
        """Any re-identification network of single images, by onnxruntime: the mean over all frames.

        The options are those of the class, except clips, clip_length and image_size. For the file's inputs and output,
        and for errors, see `OnnxFeatures`.
        """
        network = OnnxFeatures(Path(path), str(path))
        return cls(network, clip_length=1, image_size=network.image_size, clips="all_continuous", **options)

    def __call__(self, tracklets: Tracklets) -> Features:
        """Features of tracklets by id, or in a sequence whose positions, "0" and so on, are the ids.

        A tracklet is what `ImageTracklets` takes; a record set, `data.records.RecordSet.open(folder, split)`, serves
        as well. InputError for no tracklets, or a frame that is not an image.
        """
        dataset = self._dataset(tracklets)
        return Features(list(dataset.names), extract(self._model, dataset, **self._settings))

    def whitened(self, *sets: Tracklets) -> Features:
        """Whitened features (`metrics.whitening`), fitted to these tracklets without labels; compare their cosines.

        They can be compared with each other only: queries and gallery belong in one call. Where every tracklet has
        one clip, there is no covariance within tracklets, and features are only centred.

        Examples:
            >>> import numpy as np
            >>> from cfaan_jax import FeatureExtractor, models
            >>> small = models.create("c2d", num_classes=5, clip_length=2, image_size=(32, 16), width=8,
            ...                       depths=(1, 1, 1, 1))
            >>> extractor = FeatureExtractor(small, clip_length=2, image_size=(32, 16))
            >>> rng = np.random.default_rng(0)
            >>> people = {f"person {i}": rng.integers(0, 256, (6, 64, 32, 3), np.uint8) for i in range(12)}
            >>> found = extractor.whitened(people)
            features of 12 tracklets: ...
            >>> found.features.shape
            (12, 256)

        Args:
            *sets: as for a call of the extractor, such as the record sets of the queries and of the gallery. InputError
                as there, or for fewer than 10 tracklets in all.

        Returns:
            Features `[N, D]` of the tracklets of all sets, in their order.
        """
        names: list[str] = []
        batches, datasets = [], [self._dataset(tracklets) for tracklets in sets]
        if (count := sum(map(len, datasets))) < whitening.MIN_TRACKLETS:
            raise InputError(f"{count} tracklets are too few to whiten features with: give all that are compared, at "
                             f"least {whitening.MIN_TRACKLETS}, or take the features as they are")
        for dataset in datasets:
            for batch in iter_clip_features(self._model, dataset, **self._settings):
                real = batch.tracklets >= 0
                batches.append((batch.features[real], len(names) + batch.tracklets[real],
                                np.full(real.sum(), batch.frames)))
            names += dataset.names
        features, tracklets, frames = map(np.concatenate, zip(*batches, strict=True))
        check_finite(features, [names[row] for row in tracklets])
        return Features(names, whitening.whitened(features, tracklets, frames))

    def _dataset(self, tracklets: Tracklets) -> RecordSet | ImageTracklets:
        """What a loader reads: the record set, or the images, after Re-Detect and Link if that is set."""
        if isinstance(tracklets, RecordSet):
            return tracklets
        if not isinstance(tracklets, Iterable):
            raise InputError(f"{type(tracklets).__name__} in the place of tracklets: give a mapping of their names to "
                             "their frames, a sequence of their frames, or a record set")
        if not isinstance(tracklets, Mapping):
            tracklets = {str(position): frames for position, frames in enumerate(tracklets)}
        images = ImageTracklets(tracklets)
        if self._redetect_link is None:
            return images
        aligned = {name: self._redetect_link.align([images.image(i, k) for k in range(images.lengths[i])])
                   for i, name in enumerate(images.names)}
        return ImageTracklets({name: frames for name, (frames, _) in aligned.items()},
                              {name: rectangles for name, (_, rectangles) in aligned.items()})

    def video(self, path: str | Path, boxes: Mapping[str, Mapping[int, Sequence[float]]]) -> Features:
        """Features of people whose boxes in a video are known, see `data.tracklets.crop_video`.

        InputError for a video that cannot be read, or boxes outside it.
        """
        return self(crop_video(path, boxes))
