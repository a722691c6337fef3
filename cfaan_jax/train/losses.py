"""Training losses: batch-hard triplet and cross entropy (paper, section 3.3), and those of other systems."""

import jax
import jax.numpy as jnp
import optax

from cfaan_jax.models.layers.batch_norm import l2_normalize

_SQUARED_DISTANCE_FLOOR = 1e-12  # keeps the gradient of the root finite for equal features


def euclidean_distances(features: jax.Array) -> jax.Array:
    """Distances between all pairs of rows, `[B, D]` -> `[B, B]`; squared distances are clamped at 1e-12."""
    squares = jnp.square(features).sum(-1)
    products = jnp.matmul(features, features.T, precision=jax.lax.Precision.HIGHEST)
    squared = jnp.maximum(squares[:, None] + squares[None, :] - 2 * products, _SQUARED_DISTANCE_FLOOR)
    # Rounding would leave something between a sample and itself, whose root has a steep gradient.
    return jnp.sqrt(jnp.where(jnp.eye(len(features), dtype=bool), _SQUARED_DISTANCE_FLOOR, squared))


def cosine_distances(features: jax.Array) -> jax.Array:
    """Minus the cosine between all pairs of rows, `[B, D]` -> `[B, B]`."""
    directions = l2_normalize(features)
    return -jnp.matmul(directions, directions.T, precision=jax.lax.Precision.HIGHEST)


DISTANCES = {"euclidean": euclidean_distances, "cosine": cosine_distances}


def triplet(features: jax.Array, labels: jax.Array, margin: float | None = None,
            distance: str = "euclidean") -> jax.Array:
    """Batch-hard triplet loss (Hermans et al. 2017), mean over the batch of features `[B, D]`, labels int `[B]`.

    Every sample is an anchor; its farthest positive (the anchor itself is among them) is held against its nearest
    negative, by one of `DISTANCES`. A margin of None is the soft one, log(1 + exp(d_ap - d_an)); else the loss is
    max(0, d_ap - d_an + margin).
    """
    distances = DISTANCES[distance](features)
    same = labels[:, None] == labels[None, :]
    positive = jnp.where(same, distances, -jnp.inf).max(1)
    negative = jnp.where(same, jnp.inf, distances).min(1)
    difference = positive - negative
    return jnp.mean(jax.nn.softplus(difference) if margin is None else jax.nn.relu(difference + margin))


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross entropy of logits `[B, classes]` with class numbers, int `[B]`, mean over the batch.

    `smoothing` is the share of the target that is spread evenly over all classes (Szegedy et al. 2016).
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()


def centre(features: jax.Array, labels: jax.Array, centres: jax.Array) -> jax.Array:
    """Centre loss (Wen et al. 2016): squared distance to the centre of the own class, mean over the batch.

    Features are `[B, D]`, labels class numbers, int `[B]`, and centres `[classes, D]`.
    """
    squared = jnp.square(features - centres[labels]).sum(-1)
    return jnp.maximum(squared, _SQUARED_DISTANCE_FLOOR).mean()


def osm_caa(features: jax.Array, labels: jax.Array, class_vectors: jax.Array, margin: float = 1.2,
            negative_share: float = 0.5, sigma: float = 0.8) -> jax.Array:
    """Online soft mining with class-aware attention (Wang et al., AAAI 2019).

    A contrastive loss over all pairs of different samples at unit length. A pair weighs more the better it is mined (a
    positive pair by its nearness, a negative one by what it lacks of the margin) and the surer both samples are of
    their class.

    Args:
        features, labels: `[B, D]`, class numbers, int `[B]`.
        class_vectors: `[classes, D]`, rows of a classifier or centres.
        margin: alpha, distance from which on a negative pair costs nothing.
        negative_share: l, of the loss, between 0 and 1; the rest is the positive pairs'.
        sigma: the distance at which the weight of a positive pair is 1/e.
    """
    directions = l2_normalize(features)
    distances = euclidean_distances(directions)
    lacking = jnp.maximum(margin - distances, _SQUARED_DISTANCE_FLOOR)
    same = labels[:, None] == labels[None, :]
    mined = jnp.where(same, jnp.exp(-jnp.square(distances) / sigma**2), lacking)
    cosines = jnp.matmul(directions, l2_normalize(class_vectors).T, precision=jax.lax.Precision.HIGHEST)
    classes = jax.nn.softmax(cosines, axis=-1)
    sure = jnp.take_along_axis(classes, labels[:, None], axis=1)
    weights = mined * jnp.minimum(sure, sure.T) * (1 - jnp.eye(len(labels)))
    positive = _weighted_mean(jnp.square(distances), jnp.where(same, weights, 0.0))
    negative = _weighted_mean(jnp.square(lacking), jnp.where(same, 0.0, weights))
    return ((1 - negative_share) * positive + negative_share * negative) / 2


def _weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """0 where nothing has any weight."""
    total = weights.sum()
    return (weights * values).sum() / jnp.where(total > 0, total, 1.0)


def attention_on_erased(frame_logits: jax.Array, erased: jax.Array) -> jax.Array:
    """Sum of the logits `[B, T]` of the frames that random erasing hit, mean over clips (Pathak et al., AAAI 2020)."""
    return (frame_logits * erased).sum(1).mean()
