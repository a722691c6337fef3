"""What training minimises: the weighted sum of the losses that a config asks for, and the centres that some need."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cfaan_jax.models.video_reid import Output, VideoReID
from cfaan_jax.train import losses

# The losses of one branch: (settings, scores, features, labels, centres) -> value. Each has a field <name>_weight, the
# identity loss id_weight.
_BY_BRANCH = {
    "triplet": lambda settings, scores, features, labels, centres: losses.triplet(
        features, labels, settings.margin, settings.triplet_distance),
    "id_loss": lambda settings, scores, features, labels, centres: losses.cross_entropy(
        scores, labels, settings.smoothing),
    "centre": lambda settings, scores, features, labels, centres: losses.centre(features, labels, centres),
    "osm_caa": lambda settings, scores, features, labels, centres: losses.osm_caa(
        features, labels, centres, settings.osm_caa_margin, settings.osm_caa_negative_share, settings.osm_caa_sigma),
}


def initial_centres(settings: ConfigDict, model: VideoReID, num_classes: int, seed: int) -> jax.Array | None:
    """A centre of every class for each branch of the head, `[branches, classes, D]`, drawn from N(0, 1).

    None where `settings` (a config's `loss`) asks for no centre loss.
    """
    if not settings.centre_weight:
        return None
    branches = model.head_settings.branches
    rng = np.random.default_rng((2, seed))  # sampler and loader draw from (0, ...) and (1, ...)
    drawn = rng.standard_normal((branches, num_classes, model.feature_size // branches), np.float32)
    return jnp.asarray(drawn)


def objective(settings: ConfigDict, output: Output, labels: jax.Array, erased: jax.Array,
              centres: jax.Array | None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of a batch, and its parts before they were weighed; those of several branches are added up.

    `settings` is a config's `loss`, labels are class numbers, int `[B]`, and `erased` says which frames random erasing
    hit, bool `[B, T]`; for the centres, see `initial_centres`.
    """
    parts = dict.fromkeys((name for name in _BY_BRANCH if _weight(settings, name)), 0.0)
    centres = [None] * len(output.logits) if centres is None else centres
    for scores, features, own in zip(output.logits, output.features, centres, strict=True):
        for name in parts:
            parts[name] += _BY_BRANCH[name](settings, scores, features, labels, own)
    if settings.attention_weight:
        parts["attention"] = losses.attention_on_erased(output.frame_logits, erased)
    return sum(_weight(settings, name) * part for name, part in parts.items()), parts


def _weight(settings: ConfigDict, name: str) -> float:
    return settings[f"{name.removesuffix('_loss')}_weight"]


def moved_centres(settings: ConfigDict, centres: jax.Array | None, gradients: jax.Array | None) -> jax.Array | None:
    """The centres after a step of gradient descent at `centre_rate`, as if the centre loss had weight 1.

    All that moves them is divided by the weight of the centre loss, that of OSM-CAA too, as in the code of FT-WFT.
    """
    return None if centres is None else centres - settings.centre_rate / settings.centre_weight * gradients
