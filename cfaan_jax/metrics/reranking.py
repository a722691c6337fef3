"""k-reciprocal re-ranking (Zhong et al., CVPR 2017), without a matrix of all pairs.

The published code holds several N x N matrices for N queries and gallery rows; this one the nearest neighbours of every
row, and sparse encodings.
"""

import numpy as np
from scipy import sparse

from cfaan_jax.errors import InputError

_BLOCK_BYTES = 1 << 27


def rerank(query: np.ndarray, gallery: np.ndarray, k1: int = 20, k2: int = 6, lambda_value: float = 0.3) -> np.ndarray:
    """k-reciprocal re-ranked distances between queries and gallery (Zhong et al., CVPR 2017), float32 [Q, G].

    Examples:
        >>> import numpy as np
        >>> from cfaan_jax import metrics
        >>> gallery = np.eye(4)
        >>> distances = metrics.rerank(gallery[:2] + 0.1, gallery, k1=2, k2=1)
        >>> distances.shape, distances.argmin(axis=1).tolist()
        ((2, 4), [0, 1])

    Args:
        query, gallery: features [Q, D] and [G, D], of length 1 if compared by the cosine. The original distance is
            their squared Euclidean distance, divided by the largest of its row.
        k1: number of neighbours that may be reciprocal.
        k2: number of neighbours over which encodings are averaged; 1: none.
        lambda_value: share of the original distance in the result; the rest is the Jaccard distance.
    Raises:
        InputError: lengths that do not fit, features that are not finite, settings out of range.
    """
    features = _checked(query, gallery, k1, k2, lambda_value)
    neighbours, farthest = _neighbours(features, max(k1 + 1, k2))
    encodings = _encode(features, neighbours, farthest, k1)
    if k2 > 1:
        encodings = _average(encodings, neighbours[:, :k2])
    return _mix_distances(features, len(query), encodings, farthest, lambda_value)


def _checked(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, lambda_value: float) -> np.ndarray:
    """Queries and gallery as one float32 matrix [N, D]."""
    query, gallery = np.asarray(query), np.asarray(gallery)
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1] or not len(query) or not len(gallery):
        raise InputError(f"features have shapes {query.shape} and {gallery.shape}; give [queries, D] and [gallery, D], "
                         "neither empty")
    features = np.concatenate([query, gallery])
    if not np.isfinite(features).all():
        raise InputError(f"the feature of row {int((~np.isfinite(features)).any(1).argmax())} is not finite")
    if not all(isinstance(k, int | np.integer) and k >= 1 for k in (k1, k2)) or not 0 <= lambda_value <= 1:
        raise InputError(f"k1={k1}, k2={k2}, lambda_value={lambda_value}: k1 and k2 must be whole numbers >= 1, "
                         "lambda_value from 0 to 1")
    # Only ratios of distances matter: divided by a power of two, which rounds nothing, their squares cannot overflow.
    return np.ldexp(features, -np.frexp(np.abs(features).max())[1]).astype(np.float32)


def _squared(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances [R, C]."""
    lengths = np.einsum("nd,nd->n", rows, rows)[:, None] + np.einsum("nd,nd->n", columns, columns)
    return np.maximum(lengths - 2 * rows @ columns.T, 0)


def _neighbours(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of every row, itself first, ties in order, int [N, count]; its largest distance, [N]."""
    total = len(features)
    count, block = min(count, total), max(1, _BLOCK_BYTES // (4 * total))
    nearest, farthest = np.empty((total, count), np.int64), np.empty(total, np.float32)
    for start in range(0, total, block):
        rows = np.arange(start, min(start + block, total))
        distances = _squared(features[rows], features)
        distances[np.arange(len(rows)), rows] = 0
        farthest[rows] = np.maximum(distances.max(1), np.finfo(np.float32).tiny)
        columns = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.lexsort((columns, np.take_along_axis(distances, columns, 1)), axis=1)
        nearest[rows] = np.take_along_axis(columns, order, 1)
    return nearest, farthest


def _reciprocal(neighbours: np.ndarray, row: int, k: int) -> np.ndarray:
    """Those of the k + 1 nearest rows of a row that have it among their own."""
    forward = neighbours[row, :k + 1]
    return forward[(neighbours[forward, :k + 1] == row).any(1)]


def _encode(features: np.ndarray, neighbours: np.ndarray, farthest: np.ndarray, k1: int) -> sparse.csr_array:
    """Every row as weights of its k-reciprocal neighbours, expanded by theirs where two thirds agree, [N, N]."""
    half = int(np.around(k1 / 2))
    smaller = [_reciprocal(neighbours, row, half) for row in range(len(features))]
    columns, weights = [], []
    for row in range(len(features)):
        own = _reciprocal(neighbours, row, k1)
        theirs = [smaller[other] for other in own
                  if np.isin(smaller[other], own).sum() > 2 / 3 * len(smaller[other])]
        neighbourhood = np.unique(np.concatenate([own, *theirs]))
        weight = np.exp(-_squared(features[row:row + 1], features[neighbourhood])[0] / farthest[row])
        columns.append(neighbourhood)
        weights.append(weight / weight.sum())
    starts = np.cumsum([0, *map(len, columns)])
    return sparse.csr_array((np.concatenate(weights), np.concatenate(columns), starts), (len(features),) * 2)


def _average(encodings: sparse.csr_array, neighbours: np.ndarray) -> sparse.csr_array:
    """The mean of each row's and its neighbours' encodings."""
    total, count = neighbours.shape
    starts = np.arange(0, total * count + 1, count)
    mean = sparse.csr_array((np.full(total * count, 1 / count, np.float32), neighbours.ravel(), starts), (total, total))
    return (mean @ encodings).tocsr()


def _mix_distances(features: np.ndarray, queries: int, encodings: sparse.csr_array, farthest: np.ndarray,
                   share: float) -> np.ndarray:
    """Weighted sum of the Jaccard distance of the encodings and the original distance."""
    result = np.empty((queries, len(features) - queries), np.float32)
    by_column = encodings[queries:].tocsc()
    for row in range(queries):
        begin, end = encodings.indptr[row:row + 2]
        common = np.zeros(result.shape[1], np.float32)
        for column, weight in zip(encodings.indices[begin:end], encodings.data[begin:end], strict=True):
            first, last = by_column.indptr[column:column + 2]
            # A column holds a row once, so nothing is added twice.
            common[by_column.indices[first:last]] += np.minimum(weight, by_column.data[first:last])
        result[row] = 1 - common / (2 - common)
    original = _squared(features[:queries], features[queries:]) / farthest[:queries, None]
    return result * (1 - share) + original * np.float32(share)
