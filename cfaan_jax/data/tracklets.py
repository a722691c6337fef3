"""Tracklets that lie in no record set: image files, or arrays in memory, in the form that `data.loader` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.data.images import decode_into, decoded
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import read_regular_file

Frame = np.ndarray | bytes | str | Path
Tracklet = Sequence[Frame] | np.ndarray


class ImageTracklets:
    """Tracklets by their ids; image files are read only when a frame is asked for.

    Args:
        tracklets: for each id its frames in temporal order, at least one: paths of image files, the bytes of such
            files, or uint8 `[h, w, 3]` RGB arrays; an array uint8 `[T, h, w, 3]` stands for T of these.
        rectangles: by id, int32 `[T, 4]`, (y0, y1, x0, x1) in pixels, end exclusive: where frames hold real pixels.
            Tracklets that are not named have them everywhere.

    Attributes:
        names: the ids.
        lengths: int64 `[N]`, numbers of frames.

    Raises:
        InputError: no tracklet, one without frames, or an array of another kind.
    """

    def __init__(self, tracklets: Mapping[str, Tracklet], rectangles: Mapping[str, np.ndarray] | None = None):
        if not tracklets:
            raise InputError("no tracklets are given; a tracklet is a list of images, or an array [T, h, w, 3]")
        for name, each in tracklets.items():
            if isinstance(each, str | bytes | Path):
                raise InputError(f"tracklet {name}: a single path or file; give the list of its frames, for example "
                                 "sorted(Path(folder).iterdir())")
        self.names, self._frames = list(tracklets), [list(each) for each in tracklets.values()]
        self._rectangles, self._sizes = dict(rectangles or {}), {}
        self.lengths = np.array([len(each) for each in self._frames], np.int64)
        for name, frames in zip(self.names, self._frames, strict=True):
            if not frames:
                raise InputError(f"tracklet {name} has no frames; leave it out")
            for k, frame in enumerate(frames):
                _check_frame(f"tracklet {name}, frame {k}", frame)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, i: int, k: int) -> np.ndarray:
        """Frame k of tracklet i, uint8 `[h, w, 3]`, RGB; InputError for a file that is not a readable image."""
        frame = self._frames[i][k]
        if isinstance(frame, np.ndarray):
            return frame
        image = decoded(self.file(i, k))
        if image is None:
            raise self._unreadable(i, k)
        return image

    def images_into(self, pixels: Sequence[np.ndarray], tracklets: np.ndarray, frames: np.ndarray) -> None:
        """Frames k `[n]` of tracklets i `[n]` as `image` gives them, each into pixels of its size, side by side."""
        files = []
        for target, i, k in zip(pixels, tracklets, frames, strict=True):
            if isinstance(frame := self._frames[i][k], np.ndarray):
                target[...] = frame
            else:
                files.append((target, i, k))
        for n in decode_into([target for target, _, _ in files], [self.file(i, k) for _, i, k in files]):
            raise self._unreadable(*files[n][1:])

    def _unreadable(self, i: int, k: int) -> InputError:
        return InputError(f"{self._where(i, k)} is not a readable image; restore the file, or leave it out")

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
            raise InputError(f"{self._where(i, k)} cannot be read ({error.strerror}); correct the path") from None

    def _where(self, i: int, k: int) -> str:
        frame = self._frames[i][k]
        return f"{f'{frame}: ' if isinstance(frame, str | Path) else ''}tracklet {self.names[i]}, frame {k}"

    def image_sizes(self, i: int) -> np.ndarray:
        """Height and width of the frames of tracklet i, int32 `[T, 2]`."""
        if i not in self._sizes:  # every clip asks, and the answer takes a look at every frame
            self._sizes[i] = np.array([self.image(i, k).shape[:2] for k in range(len(self._frames[i]))], np.int32)
        return self._sizes[i]

    def rectangles(self, i: int) -> np.ndarray:
        """Rectangles of real pixels of tracklet i, int32 `[T, 4]`."""
        if self.names[i] in self._rectangles:
            return np.asarray(self._rectangles[self.names[i]], np.int32)
        height, width = self.image_sizes(i).T
        zero = np.zeros_like(height)
        return np.stack([zero, height, zero, width], axis=-1)

    def image_sizes_at(self, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Height and width of some frames: tracklets int `[n]`, frames int `[n]`; int32 `[n, 2]`."""
        return np.stack([self.image_sizes(i)[k] for i, k in zip(tracklets, frames, strict=True)])

    def rectangles_at(self, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Rectangles of real pixels of some frames: tracklets int `[n]`, frames int `[n]`; int32 `[n, 4]`."""
        return np.stack([self.rectangles(i)[k] for i, k in zip(tracklets, frames, strict=True)])


def of_video(path: str | Path, boxes: Mapping[str, Mapping[int, Sequence[float]]]) -> dict[str, list[np.ndarray]]:
    """Cuts tracklets out of a video that somebody has tracked already.

    Args:
        path: of a file that OpenCV reads.
        boxes: for each id the boxes by number of the frame, counted from 0: (y0, y1, x0, x1) in pixels of the video,
            end exclusive; what lies outside the frame is cut off.

    Returns:
        For each id its crops in temporal order, uint8 `[h, w, 3]`, RGB.

    Raises:
        InputError: a video that cannot be read or is shorter than the boxes say, or a box outside the frame.
    """
    wanted: dict[int, list[str]] = {}
    for name, own in boxes.items():
        for number in own:
            if number < 0:
                raise InputError(f"track {name}: a box in frame {number}; number frames from 0")
            wanted.setdefault(int(number), []).append(name)
    crops: dict[str, list[np.ndarray]] = {name: [] for name in boxes}
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path}: OpenCV cannot read this video; convert it, for example to MP4 with H.264")
    for number in range(max(wanted, default=-1) + 1):
        if not capture.grab():
            raise InputError(f"{path}: ends after {number} frames, but there are boxes up to frame {max(wanted)}; "
                             "number frames from 0")
        if number in wanted:
            ok, frame = capture.retrieve()
            if not ok:
                raise InputError(f"{path}: frame {number} cannot be decoded; convert the video anew")
            for name in wanted[number]:
                crops[name].append(_cut(frame, boxes[name][number], f"{path}: track {name}, frame {number}"))
    return crops


def _cut(frame: np.ndarray, box: Sequence[float], where: str) -> np.ndarray:
    """What lies inside a box of a BGR frame, as RGB."""
    height, width = frame.shape[:2]
    y0, y1, x0, x1 = np.clip(np.rint(box), 0, [height, height, width, width]).astype(int).tolist()
    if y0 >= y1 or x0 >= x1:
        raise InputError(f"{where}: the box (y0, y1, x0, x1) = {tuple(box)} holds no pixel of a frame of {height} x "
                         f"{width}; correct it")
    return cv2.cvtColor(frame[y0:y1, x0:x1], cv2.COLOR_BGR2RGB)


def _check_frame(where: str, frame: Frame) -> None:
    if isinstance(frame, bytes | str | Path):
        return
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 \
            or not frame.size:
        found = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"{where}: {found} is no image; give uint8 [h, w, 3] RGB, or the path of an image file")
