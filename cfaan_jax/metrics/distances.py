"""Distances between features, as a network's config names them."""

import numpy as np

DISTANCES = ("cosine", "euclidean")


def l2_normalize(features: np.ndarray) -> np.ndarray:
    """Features divided by their lengths, float32 [N, D]; a feature of zeros stays zero."""
    # In float64, where squares of very large or small numbers fit.
    squares = np.einsum("nd,nd->n", features, features, dtype=np.float64)[:, None]
    return (features / np.sqrt(np.where(squares > 0, squares, 1))).astype(np.float32)


def normalize_for(distance: str, features: np.ndarray) -> np.ndarray:
    """Features [N, D] as `pairwise` takes them: of length 1 for the cosine, unchanged for the Euclidean distance."""
    return l2_normalize(features) if distance == "cosine" else features


def pairwise(distance: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Minus the cosine, or the squared Euclidean distance, of all pairs of rows from `normalize_for`, [A, B]."""
    products = a @ b.T
    if distance == "cosine":
        return -products
    return np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * products
