"""Tracklets outside a record set: image files, or arrays in memory, in the form that `data.loader` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.data import images
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import read_regular_file

Frame = np.ndarray | bytes | str | Path
Tracklet = Sequence[Frame] | np.ndarray


class ImageTracklets:
    """Tracklets by id; an image file is read when a frame of it is requested.

    A tracklet has at least one frame, in temporal order: paths of image files, the bytes of such files, or uint8
    `[h, w, 3]` RGB arrays; or it is one array uint8 `[T, h, w, 3]`. InputError for anything else, or no tracklet.
    `rectangles`, int32 `[T, 4]`, (y0, y1, x0, x1) in pixels, end exclusive, say where frames hold real pixels; by
    default all pixels are real. `names` are the ids, `lengths` int64 `[N]` the numbers of frames.
    """

    def __init__(self, tracklets: Mapping[str, Tracklet], rectangles: Mapping[str, np.ndarray] | None = None):
        if not tracklets:
            raise InputError("no tracklets are given; a tracklet is a list of images, or an array [T, h, w, 3]")
        self.names, self._frames = list(tracklets), []
        for name, frames in tracklets.items():
            if isinstance(frames, str | bytes | Path):
                raise InputError(f"tracklet {name}: a single path or file; give the list of its frames, for example "
                                 "sorted(Path(folder).iterdir())")
            self._frames.append(list(frames))
            if not self._frames[-1]:
                raise InputError(f"tracklet {name} has no frames; leave it out")
            for k, frame in enumerate(self._frames[-1]):
                _check_frame(f"tracklet {name}, frame {k}", frame)
        self._rectangles = dict(rectangles or {})
        self._sizes: dict[int, np.ndarray] = {}
        self.lengths = np.array([len(frames) for frames in self._frames], np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, i: int, k: int) -> np.ndarray:
        """Frame k of tracklet i, uint8 `[h, w, 3]`, RGB; InputError for a file that is not a readable image."""
        frame = self._frames[i][k]
        image = frame if isinstance(frame, np.ndarray) else images.decode(self.file(i, k))
        if image is None:
            raise self._unreadable(i, k)
        return image

    def file(self, i: int, k: int) -> bytes:
        """Frame k of tracklet i as an image file, without loss; InputError for one that cannot be read."""
        frame = self._frames[i][k]
        if isinstance(frame, bytes):
            return frame
        if isinstance(frame, np.ndarray):
            return cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
        try:
            return read_regular_file(frame)
        except OSError as error:
            raise InputError(f"{self._label(i, k)} cannot be read ({error.strerror}); correct the path") from None

    def image_sizes(self, i: int) -> np.ndarray:
        """Height and width of the frames of tracklet i, int32 `[T, 2]`; InputError as from `image`."""
        if i not in self._sizes:  # every clip needs them, and they take a look at every frame
            self._sizes[i] = np.array([self._size(i, k) for k in range(len(self._frames[i]))], np.int32)
        return self._sizes[i]

    def rectangles(self, i: int) -> np.ndarray:
        """Rectangles of real pixels of tracklet i, int32 `[T, 4]`."""
        if self.names[i] in self._rectangles:
            return np.asarray(self._rectangles[self.names[i]], np.int32)
        height, width = self.image_sizes(i).T
        zero = np.zeros_like(height)
        return np.stack([zero, height, zero, width], axis=-1)

    def _size(self, i: int, k: int) -> tuple[int, int]:
        frame = self._frames[i][k]
        if isinstance(frame, np.ndarray):
            return frame.shape[:2]
        file = self.file(i, k)
        try:
            return images.size_of(file)
        except ValueError:
            raise self._unreadable(i, k) from None

    def _label(self, i: int, k: int) -> str:
        frame = self._frames[i][k]
        return f"{f'{frame}: ' if isinstance(frame, str | Path) else ''}tracklet {self.names[i]}, frame {k}"

    def _unreadable(self, i: int, k: int) -> InputError:
        return InputError(f"{self._label(i, k)} is not a readable image; restore the file, or leave it out")


def crop_video(path: str | Path, boxes: Mapping[str, Mapping[int, Sequence[float]]]) -> dict[str, list[np.ndarray]]:
    """Crops tracklets from a video that OpenCV reads: by id the crops in temporal order, uint8 `[h, w, 3]`, RGB.

    Boxes by id, then by number of the frame from 0: (y0, y1, x0, x1) in pixels of the video, end exclusive; parts
    outside the frame are cut off. InputError for a video that cannot be read or is shorter than the boxes say, or a
    box that lies outside the frame.
    """
    ids: dict[int, list[str]] = {}  # with a box in a frame
    for name, track in boxes.items():
        for number in track:
            if number < 0:
                raise InputError(f"track {name}: a box in frame {number}; number frames from 0")
            ids.setdefault(int(number), []).append(name)
    crops: dict[str, list[np.ndarray]] = {name: [] for name in boxes}
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path}: OpenCV cannot read this video; convert it, for example to MP4 with H.264")
    for number in range(max(ids, default=-1) + 1):
        if not capture.grab():
            raise InputError(f"{path}: ends after {number} frames, but there are boxes up to frame {max(ids)}; "
                             "number frames from 0")
        if number in ids:
            decoded, frame = capture.retrieve()
            if not decoded:
                raise InputError(f"{path}: frame {number} cannot be decoded; convert the video again")
            for name in ids[number]:
                crops[name].append(_crop(frame, boxes[name][number], f"{path}: track {name}, frame {number}"))
    return crops


def _crop(frame: np.ndarray, box: Sequence[float], where: str) -> np.ndarray:
    """The pixels inside a box of a BGR frame, as RGB."""
    height, width = frame.shape[:2]
    y0, y1, x0, x1 = np.clip(np.rint(box), 0, [height, height, width, width]).astype(int).tolist()
    if y0 >= y1 or x0 >= x1:
        raise InputError(f"{where}: the box (y0, y1, x0, x1) = {tuple(box)} lies outside the frame of {height} x "
                         f"{width}; correct it")
    return cv2.cvtColor(frame[y0:y1, x0:x1], cv2.COLOR_BGR2RGB)


def _check_frame(where: str, frame: Frame) -> None:
    if isinstance(frame, bytes | str | Path):
        return
    is_array = isinstance(frame, np.ndarray)
    if not is_array or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        description = f"{frame.dtype} {list(frame.shape)}" if is_array else type(frame).__name__
        raise InputError(f"{where}: {description} is not an image; give uint8 [h, w, 3] RGB, or the path of an image "
                         "file")
