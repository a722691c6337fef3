"""Re-Detect and Link for tracklets of a `cfaan_jax.FeatureExtractor`, which are in no records."""

from collections.abc import Sequence

import numpy as np

from data_prep.redetect_link import detectors, linkers
from data_prep.redetect_link.alignment import AlignmentSettings, align_tracklet
from data_prep.redetect_link.packing import as_jpeg


class RedetectLink:
    """Runs Re-Detect and Link (paper, section 3.1) on one tracklet after the other.

    Examples:
        >>> import numpy as np
        >>> from data_prep.redetect_link import RedetectLink
        >>> frames, rectangles = RedetectLink("hog", "largest").align([np.zeros((64, 32, 3), np.uint8)])
        >>> rectangles.tolist()  # nobody there: the whole crop
        [[0, 256, 0, 128]]

    Args:
        detector, linker: by their names, see `detectors.create` and `linkers.create`.
        settings: every threshold; None: the defaults.
        quality: of the JPEG files, 1 to 100.

    Raises:
        InputError: unknown detector or linker, or one that cannot be loaded.
    """

    def __init__(self, detector: str = "hog", linker: str = "largest", settings: AlignmentSettings | None = None,
                 quality: int = 95):
        self._settings, self._quality = settings or AlignmentSettings(), quality
        self._detector = detectors.create(
            detector, confidence=self._settings.detector_confidence, nms=self._settings.detector_nms,
            input_size=self._settings.detector_size)
        self._linker = linkers.create(linker)

    def align(self, frames: Sequence[np.ndarray]) -> tuple[list[bytes], np.ndarray]:
        """Re-crops every frame of a tracklet around the person it follows.

        Args:
            frames: uint8 `[h, w, 3]`, RGB, in temporal order; sizes may differ.

        Returns:
            JPEG files, as records hold them; and int32 `[T, 4]`, the rectangles of their real pixels,
            `(y0, y1, x0, x1)`.
        """
        aligned = align_tracklet(frames, self._detector, self._linker, self._settings)
        rectangles = np.array([frame.rectangle for frame in aligned], np.int32)
        return [as_jpeg(frame.image, self._quality) for frame in aligned], rectangles
