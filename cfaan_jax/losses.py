"""Training losses (paper, section 3.3): batch-hard triplet and cross entropy."""

import jax
import jax.numpy as jnp
import optax

_SQUARED_DISTANCE_FLOOR = 1e-12  # keeps the gradient of the root finite for equal features


def euclidean_distances(features: jax.Array) -> jax.Array:
    """Distances between all pairs of rows, `[B, D]` -> `[B, B]`; squared distances are clamped at 1e-12."""
    squares = jnp.square(features).sum(-1)
    products = jnp.matmul(features, features.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, _SQUARED_DISTANCE_FLOOR))


def triplet(features: jax.Array, labels: jax.Array, margin: float | None = None) -> jax.Array:
    """Batch-hard triplet loss (Hermans et al. 2017), mean over the batch.

    Every sample is an anchor; its farthest positive (the anchor itself is among them) is held against its nearest
    negative.

    Args:
        features: `[B, D]`.
        labels: identities, int `[B]`.
        margin: None for the soft margin log(1 + exp(d_ap - d_an)), else max(0, d_ap - d_an + margin).
    """
    distances = euclidean_distances(features)
    same = labels[:, None] == labels[None, :]
    positive = jnp.where(same, distances, -jnp.inf).max(1)
    negative = jnp.where(same, jnp.inf, distances).min(1)
    difference = positive - negative
    return jnp.mean(jax.nn.softplus(difference) if margin is None else jax.nn.relu(difference + margin))


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross entropy, mean over the batch.

    Args:
        logits: `[B, classes]`.
        labels: class numbers, int `[B]`.
        smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016).
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()
