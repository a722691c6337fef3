"""Link (paper, section 3.1): which detection of every frame shows the person that the tracklet follows.

The largest box of the first frame with a detection starts the tracklet; its feature is the first global feature f. In
every later frame the detection with the feature f' nearest to f, by Euclidean distance, is chosen, and f moves:

    f <- 0.9 f + 0.1 f'          eq. 1, alpha = 0.9
"""

from collections.abc import Sequence

import numpy as np


def link(features: Sequence[np.ndarray], boxes: Sequence[np.ndarray],
         momentum: float = 0.9) -> tuple[list[int | None], list[np.ndarray]]:
    """Chooses one detection per frame.

    Args:
        features: per frame `[n, d]`, one row per detection.
        boxes: per frame `[n, 4]`, `(y0, y1, x0, x1)`. The larger one of equally near detections is chosen, the first
            one of equally large ones.
        momentum: alpha in equation 1.

    Returns:
        Per frame the index of the chosen detection, or None without a detection; per frame the distances `[n]` to f,
        which are zeros up to the first frame with a detection.
    """
    average = None
    choices: list[int | None] = []
    distances = []
    for rows, frame_boxes in zip(features, boxes, strict=True):
        rows = rows.astype(np.float64)
        distances.append(np.zeros(len(rows)) if average is None else np.linalg.norm(rows - average, axis=1))
        if len(rows) == 0:
            choices.append(None)
            continue
        y0, y1, x0, x1 = np.asarray(frame_boxes, np.float64).T
        choice = int(np.lexsort((-(y1 - y0) * (x1 - x0), distances[-1]))[0])
        choices.append(choice)
        if average is None:
            average = rows[choice]  # section 3.1: f of the first frame
        else:
            average = momentum * average + (1 - momentum) * rows[choice]  # section 3.1, eq. 1
    return choices, distances
