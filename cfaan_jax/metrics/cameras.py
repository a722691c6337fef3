"""Which pairs of cameras are hard: each query camera against the tracklets of one other camera."""

from dataclasses import dataclass

import numpy as np

from cfaan_jax.metrics.ranking import Strips, View, rank


@dataclass(frozen=True)
class CameraPairs:
    """mAP by camera of the query (rows) and of the gallery (columns), NaN where no query has a right answer."""

    cameras: np.ndarray  # int [C], ascending
    mAP: np.ndarray  # float64 [C, C]
    queries: np.ndarray  # int [C, C], number of valid queries


def camera_pairs(distmat: np.ndarray | Strips, view: View) -> CameraPairs:
    """Scores every pair of cameras as if the gallery held the tracklets of one camera only; `distmat` is [Q, N]."""
    people, gallery = view
    g_camids = people.g_camids[gallery]
    cameras = np.union1d(people.q_camids, g_camids)
    mean, queries = np.full((len(cameras),) * 2, np.nan), np.zeros((len(cameras),) * 2, int)
    views = [View(people, gallery[g_camids == camera]) for camera in cameras]
    for column, ranks in enumerate(rank(distmat, views)):
        if not len(ranks.query):
            continue
        precision, q_camids = ranks.average_precision(), people.q_camids[ranks.valid]
        for row, camera in enumerate(cameras):
            of_camera = precision[q_camids == camera]
            queries[row, column] = len(of_camera)
            mean[row, column] = of_camera.mean() if len(of_camera) else np.nan
    return CameraPairs(cameras, mean, queries)
