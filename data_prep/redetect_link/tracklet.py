"""A tracklet as a reader yields it and Re-Detect and Link takes it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tracklet:
    """The crops of one pedestrian under one camera, in temporal order.

    Attributes:
        name: unique in the data set, made of letters, digits, `_` and `-`.
        split: `train`, `query` or `gallery`.
        track_id: row in the data set's own list of its training or test tracklets, from 0.
        pid: identity as stored; in MARS's layout -1 is junk and 0 a distractor.
        camid: camera as stored, from 1.
        sources: names of the frames relative to the data set, for messages.
        read: `read(i)` returns the bytes of the image file of frame `i`.
        rectangles: int32 `[n, 4]`, `(y0, y1, x0, x1)`: the real pixels of every frame, in a data set that is aligned
            already; None: all pixels are real.
    """

    name: str
    split: str
    track_id: int
    pid: int
    camid: int
    sources: tuple[str, ...]
    read: Callable[[int], bytes]
    rectangles: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sources)
