"""Features of tracklets for somebody else's program: the numbers of `--mode=evaluate`, without records or a config."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from cfaan_jax import models, weights
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.data.tracklets import ImageTracklets, Tracklet, crop_video
from cfaan_jax.deploy.exported import DESCRIPTION, ExportedNetwork
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate.features import check_finite, extract, iter_clip_features
from cfaan_jax.experiment.checkpoint import restore_model
from cfaan_jax.metrics import whitening
from cfaan_jax.models import VideoReID

_JPEG_QUALITY = 95  # of frames that Re-Detect and Link cuts, as data_prep/build_tfrecords.py has it


class Features(NamedTuple):
    """Features of N tracklets.

    Attributes:
        ids: as given, or the names in the record set.
        features: float32 `[N, D]`, in the same order, not normalised; compare them by their cosine, those of ftwft
            by their Euclidean distance.
    """

    ids: list[str]
    features: np.ndarray


class FeatureExtractor:
    """Turns tracklets into features; made by `open` or one of the other `from_...`, or from a network of yours.

    It takes clips, fills up batches and divides them over all devices as an evaluation does. Records hold JPEG files:
    images of other kinds give other numbers here, where nothing is compressed, than after packing into records.

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
        clip_length: T.
        image_size: (H, W) that the network sees.
        clips: which clips stand for a tracklet, see `data.clips.test_clips`.
        batch_size: clips in a batch; rounded up to a multiple of the number of devices.
        workers: reading threads.
        detector, linker: run Re-Detect and Link (paper, section 3.1) first, with a detector and a linker by the names
            that `data_prep/build_tfrecords.py` takes, such as "hog" and "largest"; needs the package `data_prep`. It is
            not run on record sets, which have it behind them or are meant to be as they are.
        distance: by which the features are meant to be compared, "cosine" or "euclidean".

    Attributes:
        clips, distance: as given.

    Raises:
        InputError: a detector without a linker or the other way round, or one that cannot be had.
    """

    def __init__(self, model: "VideoReID | ExportedNetwork | FrameNetwork", *, clip_length: int,
                 image_size: tuple[int, int], clips: str = "all_sampled", batch_size: int = 32, workers: int = 2,
                 detector: str | None = None, linker: str | None = None, distance: str = "cosine"):
        self._model, self._aligner, self.clips, self.distance = model, None, clips, distance
        devices = jax.device_count()
        self._how = dict(clips=clips, clip_length=clip_length, image_size=tuple(image_size), workers=workers,
                         batch_size=-(-batch_size // devices) * devices)
        if detector is not None or linker is not None:
            self._aligner = _aligner(detector, linker)

    @classmethod
    def open(cls, path: str | Path, **options) -> "FeatureExtractor":
        """The network that lies at a path.

        Args:
            path: a workdir, a folder that `--mode=export` wrote, an .onnx file, or a file with torch's names.
            **options: of the `from_...` that takes it.

        Raises:
            InputError: nothing is there, or none of these.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path}: no weights there; name a workdir, an export, an .onnx file of a "
                             "re-identification network, or weights with torch's names (.pth, .safetensors)")
        if path.is_dir():
            opened = cls.from_export if (path / DESCRIPTION).exists() else cls.from_workdir
        else:
            opened = cls.from_onnx if path.suffix == ".onnx" else cls.from_torch
        return opened(path, **options)

    @classmethod
    def from_workdir(cls, workdir: str | Path, which: str = "last", **options) -> "FeatureExtractor":
        """The network that was trained in a folder, with the clips and the batch of its config.

        Args:
            workdir: of the training.
            which: "last" or "best".
            **options: as for the class; they take the place of what the config says.

        Raises:
            InputError: the folder holds no such checkpoint.
        """
        model, config = restore_model(workdir, which)
        return cls(model, **dict(clip_length=config.data.clip_length, image_size=config.data.image_size,
                                 clips=config.eval.clips, batch_size=config.eval.batch,
                                 workers=config.data.workers, distance=config.eval.distance) | options)

    @classmethod
    def from_torch(cls, path: str | Path, name: str = "cfaan", *, clip_length: int = 6,
                   image_size: tuple[int, int] = (256, 128), network: Mapping | None = None,
                   **options) -> "FeatureExtractor":
        """A network with weights from a file that carries torch's names; torch is not needed.

        Args:
            path: see `weights.load_torch`; its classifier is left out.
            name: one of `models.SYSTEMS`.
            clip_length, image_size: what the network was trained with.
            network: more for `models.create`, such as dict(scales=4, heads=8, positional="relative") for cfaan.
            **options: as for the class.

        Raises:
            InputError: unreadable, or the weights of another network.
        """
        model = models.create(name, num_classes=1, clip_length=clip_length, image_size=image_size, **(network or {}))
        try:
            weights.load_torch(model, path, skip=[weights.classifier_of(model)])
        except InputError as error:
            raise InputError(f"{error}\nit was opened as name={name!r} with network={network or {}}; there are "
                             f"{', '.join(models.SYSTEMS)}") from None
        return cls(model, clip_length=clip_length, image_size=image_size, **options)

    @classmethod
    def from_export(cls, folder: str | Path, **options) -> "FeatureExtractor":
        """The network in a folder that `--mode=export` wrote.

        Args:
            folder: of the export.
            **options: as for the class, but for clip_length and image_size, which are those of the export.

        Raises:
            InputError: it holds no export, or a damaged one.
        """
        network = ExportedNetwork.open(folder)
        how = network.description
        return cls(network, clip_length=how.clip_length, image_size=how.image_size,
                   **dict(clips=how.clips, distance=how.distance) | options)

    @classmethod
    def from_onnx(cls, path: str | Path, **options) -> "FeatureExtractor":
        """Any re-identification network of single images, by onnxruntime; needs the package `data_prep`.

        Args:
            path: of the .onnx file, see `data_prep.linkers.OnnxLinker`.
            **options: as for the class, but for clips, clip_length and image_size: all frames count alike, in the size
                that the network takes.

        Raises:
            InputError: onnxruntime is not installed, or the file is broken or of another form.
        """
        from data_prep.redetect_link.linkers import OnnxLinker
        linker = OnnxLinker(Path(path), str(path))
        return cls(FrameNetwork(linker.features), clip_length=1, image_size=linker.image_size,
                   clips="all_continuous", **options)

    def __call__(self, tracklets: Mapping[str, Tracklet] | Sequence[Tracklet] | RecordSet) -> Features:
        """Features of tracklets.

        Args:
            tracklets: by id, or in a list whose places, "0" and so on, are the ids; see `ImageTracklets`. Or a record
                set, `data.records.RecordSet.open(folder, split)`.

        Raises:
            InputError: no tracklets, or a frame that is no image.
        """
        opened = self._opened(tracklets)
        return Features(list(opened.names), extract(self._model, opened, **self._how))

    def whitened(self, *sets: Mapping[str, Tracklet] | Sequence[Tracklet] | RecordSet) -> Features:
        """Features fitted to the tracklets at hand without labels, see `metrics.whitening`; compare them by the cosine.

        They go together with nothing but each other: queries and gallery belong in one call. Tracklets of one clip say
        nothing of what differs within one; where all are such, features are only centred.

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
            *sets: each as for a call of the extractor, such as the record sets of the queries and of the gallery.

        Returns:
            Features `[N, D]` of the tracklets of all sets, one behind another.

        Raises:
            InputError: as a call of the extractor does, or fewer than 10 tracklets.
        """
        names, found, opened_sets = [], [], [self._opened(each) for each in sets]
        if (count := sum(map(len, opened_sets))) < whitening.MIN_TRACKLETS:
            raise InputError(f"{count} tracklets are too few to whiten features with: give all that are compared, at "
                             f"least {whitening.MIN_TRACKLETS}, or take the features as they are")
        for opened in opened_sets:
            for batch in iter_clip_features(self._model, opened, **self._how):
                real = batch.tracklets >= 0
                found.append((batch.features[real], len(names) + batch.tracklets[real],
                              np.full(real.sum(), batch.frames)))
            names += opened.names
        features, tracklets, frames = (np.concatenate(each) for each in zip(*found, strict=True))
        check_finite(features, [names[place] for place in tracklets])
        return Features(names, whitening.whitened(features, tracklets, frames))

    def _opened(self, tracklets: Mapping[str, Tracklet] | Sequence[Tracklet] | RecordSet) -> RecordSet | ImageTracklets:
        """The tracklets as they are read, after Re-Detect and Link if that is asked for."""
        if isinstance(tracklets, RecordSet):
            return tracklets
        if not isinstance(tracklets, Iterable):
            raise InputError(f"{type(tracklets).__name__} in the place of tracklets: give a mapping of their names to "
                             "their frames, a sequence of their frames, or a record set")
        if not isinstance(tracklets, Mapping):
            tracklets = {str(place): each for place, each in enumerate(tracklets)}
        tracklets = ImageTracklets(tracklets)
        return tracklets if self._aligner is None else _aligned(tracklets, self._aligner)

    def video(self, path: str | Path, boxes: Mapping[str, Mapping[int, Sequence[float]]]) -> Features:
        """Features of people whose boxes in a video are known.

        Args:
            path: of the video.
            boxes: for each id (y0, y1, x0, x1) by number of the frame, see `data.tracklets.crop_video`.

        Raises:
            InputError: a video that cannot be read, or boxes outside it.
        """
        return self(crop_video(path, boxes))


class FrameNetwork:
    """Stands for a `VideoReID` where a network of single images gives the features: their mean over a clip.

    Args:
        features: of crops, uint8 `[n, H, W, 3]` -> float32 `[n, D]`.
    """

    any_length = True

    def __init__(self, features: Callable[[np.ndarray], np.ndarray]):
        self._features = features

    def __call__(self, frames: jax.Array, rectangles: jax.Array) -> np.ndarray:
        """Features `[B, D]` of clips uint8 `[B, T, H, W, 3]`; padding is not left out."""
        frames = np.asarray(frames)
        return self._features(frames.reshape(-1, *frames.shape[2:])).reshape(*frames.shape[:2], -1).mean(axis=1)

    def tracklet_features(self, means: np.ndarray) -> np.ndarray:
        """The means over clips are the features of tracklets, `[N, D]`."""
        return means


def _aligner(detector: str | None, linker: str | None):
    """What runs Re-Detect and Link on one tracklet; `data_prep` is imported for it alone."""
    if detector is None or linker is None:
        raise InputError(f"detector={detector!r}, linker={linker!r}: Re-Detect and Link needs both; linker='largest' "
                         "needs no weights")
    from data_prep.redetect_link import packing
    from data_prep.redetect_link.alignment import AlignmentSettings
    return packing.create(detector, linker, AlignmentSettings(), _JPEG_QUALITY)


def _aligned(tracklets: ImageTracklets, aligner) -> ImageTracklets:
    """The tracklets after Re-Detect and Link, with their masks."""
    records = {name: _align(tracklets, place, aligner) for place, name in enumerate(tracklets.names)}
    return ImageTracklets({name: record.frames for name, record in records.items()},
                          {name: record.rectangles for name, record in records.items()})


def _align(tracklets: ImageTracklets, place: int, aligner) -> TrackletRecord:
    from data_prep.redetect_link.tracklet import Tracklet as Unaligned
    name, length = tracklets.names[place], int(tracklets.lengths[place])
    return aligner(Unaligned(
        name=name, split="query", track_id=place, pid=0, camid=1,
        sources=tuple(f"{name}, frame {k}" for k in range(length)), read=lambda k: tracklets.file(place, k)))
