"""Link: which of the detected persons is the one the tracklet follows (paper, section 3.1).

The person is the largest box of the first frame that has one; afterwards it is the candidate whose feature is
nearest, by Euclidean distance, to the moving average `f_g = 0.9 f_g + 0.1 f` of the chosen features.
"""

from collections.abc import Sequence

import numpy as np


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


def _areas(boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    return (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
