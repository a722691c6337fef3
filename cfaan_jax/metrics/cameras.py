"""Which pairs of cameras are hard: each query camera against the tracklets of one other camera."""

from dataclasses import dataclass

import numpy as np

from cfaan_jax.metrics.ranking import Strips, View, rank


@dataclass(frozen=True)
class CameraPairs:
    """mAP by camera of the query (rows) and of the gallery (columns), NaN where no query has a right answer.

    Attributes:
        cameras: int [C], ascending.
        mAP: float64 [C, C].
        queries: int [C, C], the valid ones.
    """

    cameras: np.ndarray
    mAP: np.ndarray
    queries: np.ndarray


def camera_pairs(distmat: np.ndarray | Strips, gallery: View) -> CameraPairs:
    """Scores every pair of cameras as if the gallery held the tracklets of one camera only.

    Args:
        distmat: [Q, N].
        gallery: who is seen where, and which columns are the gallery.
    """
    people = gallery.identities
    cameras = np.unique(np.concatenate([people.q_camids, people.g_camids[gallery.place >= 0]]))
    mean, queries = np.full((len(cameras),) * 2, np.nan), np.zeros((len(cameras),) * 2, int)
    views = [View(people, np.where(people.g_camids == camera, gallery.place, -1)) for camera in cameras]
    for column, ranks in enumerate(rank(distmat, views)):
        if not len(ranks.query):
            continue
        precision, cameras_of = ranks.average_precision(), people.q_camids[ranks.valid]
        for row, camera in enumerate(cameras):
            own = precision[cameras_of == camera]
            queries[row, column] = len(own)
            mean[row, column] = own.mean() if len(own) else np.nan
    return CameraPairs(cameras, mean, queries)
