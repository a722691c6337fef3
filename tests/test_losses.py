"""Losses: against the authors' code, against values worked out by hand, and their gradients against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cfaan_jax import losses
from tests import golden_cases
from tests.golden_cases import Case

# Two identities on a line, at 0, 3 and 4, 10: positives are 3, 3, 6, 6 and the nearest negatives 4, 1, 1, 7 away.
LINE = jnp.array([[0.0], [3.0], [4.0], [10.0]])
PAIRS = jnp.array([0, 0, 1, 1])
GAPS = np.array([3 - 4, 3 - 1, 6 - 1, 6 - 7])


def normalised_triplet(features, labels):
    return losses.triplet(features / (jnp.linalg.norm(features, axis=1, keepdims=True) + 1e-12), labels)


@pytest.mark.parametrize("name", golden_cases.names("losses"))
@pytest.mark.parametrize("what, loss", [
    ("triplet_soft", losses.triplet),
    ("triplet_m03", lambda features, labels: losses.triplet(features, labels, margin=0.3)),
    ("triplet_soft_normalized", normalised_triplet),
])
def test_the_triplet_loss_is_the_references(name, what, loss):
    case = Case("losses", name)
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(case["features"]), case["labels"])
    case.check(what, value)
    if "duplicates" not in name:  # there it depends on which of two equal samples is picked
        case.check(f"{what}_grad", gradient)


@pytest.mark.parametrize("name", golden_cases.names("losses"))
@pytest.mark.parametrize("what, smoothing", [("cross_entropy", 0.0), ("label_smooth", 0.1)])
def test_cross_entropy_is_the_references(name, what, smoothing):
    case = Case("losses", name)
    value, gradient = jax.value_and_grad(losses.cross_entropy)(jnp.asarray(case["logits"]), case["labels"], smoothing)
    case.check(what, value)
    case.check(f"{what}_grad", gradient)


@pytest.mark.parametrize("name", golden_cases.names("losses"))
def test_the_default_recipe_adds_both(name):
    case = Case("losses", name)
    total = losses.triplet(case["features"], case["labels"]) + losses.cross_entropy(case["logits"], case["labels"])
    case.check("total_default", total)


def test_the_hardest_positive_and_negative_are_taken():
    soft, margin = losses.triplet(LINE, PAIRS), losses.triplet(LINE, PAIRS, margin=1.5)
    np.testing.assert_allclose(soft, np.log1p(np.exp(GAPS)).mean(), rtol=1e-6)
    np.testing.assert_allclose(margin, np.maximum(GAPS + 1.5, 0).mean(), rtol=1e-6)


def test_equal_features_have_a_finite_gradient():
    gradient = jax.grad(losses.triplet)(jnp.ones((4, 3)), PAIRS)
    assert np.isfinite(gradient).all()


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    labels = jnp.array([0, 2])
    plain = -(np.log(0.5) + np.log(0.1)) / 2
    even = -(np.log(0.5) + 2 * np.log(0.25) + 2 * np.log(0.1) + np.log(0.8)) / 6
    np.testing.assert_allclose(losses.cross_entropy(logits, labels), plain, rtol=1e-6)
    np.testing.assert_allclose(losses.cross_entropy(logits, labels, 0.1), 0.9 * plain + 0.1 * even, rtol=1e-6)


@pytest.mark.parametrize("loss", [
    lambda features: losses.triplet(features, PAIRS),
    lambda features: losses.triplet(features, PAIRS, margin=0.5),
    lambda features: losses.cross_entropy(features, jnp.array([0, 1, 2, 1])),
    lambda features: losses.cross_entropy(features, jnp.array([0, 1, 2, 1]), 0.1),
])
def test_gradients_are_those_of_finite_differences(loss):
    features = jnp.asarray(np.random.default_rng(3).standard_normal((4, 5)), jnp.float32)
    check_grads(loss, (features,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-3)
