"""Whitening (within-class covariance) of features with the tracklets at hand, without labels.

The clips of one tracklet show one person, so the directions in which they differ say nothing of the person. With
tracklets as classes, these directions are scaled to equal variance (Hatch, Kajarekar and Stolcke 2006).
"""

import numpy as np

MIN_TRACKLETS = 10  # fewer say too little about a camera, and two are opposite each other once they are centred
_SHRINKAGE = 0.1  # of the mean variance, added to all: fewer clips than channels leave most directions unknown


def whitened(clips: np.ndarray, tracklets: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Features of tracklets, centred and whitened with the covariance of clips within tracklets, float32 [N, D].

    They are compared by the cosine, and only centred where all clips of every tracklet are equal. `clips` are features
    [M, D]; int `tracklets` [M] are those of the clips, from 0 to N - 1, and all weigh the same; `frames` [M] are the
    weights of clips in their tracklet.
    """
    shares = frames / np.bincount(tracklets, frames)[tracklets]
    means = np.zeros((tracklets.max() + 1, clips.shape[1]))
    np.add.at(means, tracklets, shares[:, None] * clips)
    deviations = np.sqrt(shares)[:, None] * (clips - means[tracklets])
    within = deviations.T @ deviations / len(means)
    variance = np.trace(within) / len(within)
    centred = means - means.mean(axis=0)
    if variance > 0:
        within[np.diag_indices_from(within)] += _SHRINKAGE * variance
        centred = np.linalg.solve(np.linalg.cholesky(within), centred.T).T
    return centred.astype(np.float32)
