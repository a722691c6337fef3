"""Features fitted to the tracklets at hand, without a label.

The clips of one tracklet show one person. Directions of a feature in which they differ say nothing of who it is: pose,
what stands behind, the light on one side of a yard. Within-class covariance normalisation (Hatch, Kajarekar and
Stolcke 2006), with tracklets for classes, makes every such direction as short as the others.
"""

import numpy as np

FEWEST = 10  # tracklets: fewer say too little of a camera, and two lie opposite each other once they are centred
_SHRINKAGE = 0.1  # of the mean variance, added to all: fewer clips than channels leave most directions unknown


def whitened(clips: np.ndarray, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Features of tracklets, centred and with the scatter of clips within tracklets whitened.

    Args:
        clips: features of clips [M, D].
        tracklets: int [M], the tracklet of each, from 0 to N - 1; each has at least one clip and counts alike.
        frames: [M], by which clips count in their tracklet.

    Returns:
        float32 [N, D], meant to be compared by their cosine. Centred only, where all clips of each tracklet are equal.
    """
    shares = frames / np.bincount(tracklets, frames)[tracklets]
    means = np.zeros((tracklets.max() + 1, clips.shape[1]))
    np.add.at(means, tracklets, shares[:, None] * clips)
    off = np.sqrt(shares)[:, None] * (clips - means[tracklets])
    within = off.T @ off / len(means)
    variance = np.trace(within) / len(within)
    centred = means - means.mean(axis=0)
    if variance > 0:
        within[np.diag_indices_from(within)] += _SHRINKAGE * variance
        centred = np.linalg.solve(np.linalg.cholesky(within), centred.T).T
    return centred.astype(np.float32)
