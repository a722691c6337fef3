"""Losses and their gradients, against the authors' code and against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cfaan_jax.experiment.recipes import recipe
from cfaan_jax.models.video_reid import Output
from cfaan_jax.train import losses
from cfaan_jax.train.objective import moved_centres, objective
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
    ("triplet_soft_normalized", normalised_triplet)])
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
    assert np.isfinite(jax.grad(losses.triplet)(jnp.ones((4, 3)), PAIRS)).all()


# Name in the file -> arguments.
TRIPLETS = {"cosine_m03": dict(margin=0.3, distance="cosine"), "cosine_m04": dict(margin=0.4, distance="cosine"),
            "cosine_m0": dict(margin=0.0, distance="cosine"), "euclidean_m03": dict(margin=0.3)}


@pytest.mark.parametrize("what", TRIPLETS)
@pytest.mark.parametrize("name", [name for name in golden_cases.names("ap3d_head_losses") if name.startswith("loss_")])
def test_triplets_with_a_margin_are_those_of_ap3d(name, what):
    case = Case("ap3d_head_losses", name)
    value, gradient = jax.value_and_grad(losses.triplet)(
        jnp.asarray(case["features"]), case["labels"], **TRIPLETS[what])
    case.check(what, value)
    case.check(f"{what}_grad", gradient)


@pytest.mark.parametrize("name", golden_cases.names("losses"))
def test_the_centre_loss_is_the_references(name):
    case = Case("losses", name)
    value, gradients = jax.value_and_grad(losses.centre, (0, 2))(
        jnp.asarray(case["features"]), case["labels"], jnp.asarray(case["centers"]))
    case.check("center", value)
    for what, gradient in zip(("features", "centers"), gradients, strict=True):
        case.check(f"center_grad_{what}", gradient)


CONFIG_59 = dict(margin=2.8436551583293728, negative_share=0.5873389293193368, sigma=0.9047814732165316)


@pytest.mark.parametrize("settings, arguments", [("default", {}), ("config59", CONFIG_59)])
@pytest.mark.parametrize("vectors, stored", [("weights", "classifier_weight"), ("centers", "centers")])
@pytest.mark.parametrize("name", golden_cases.names("ftwft_losses"))
def test_osm_caa_is_that_of_ft_wft(name, vectors, stored, settings, arguments):
    case, what = Case("ftwft_losses", name), f"osm_caa_{settings}_{vectors}"
    value, gradients = jax.value_and_grad(losses.osm_caa, (0, 2))(
        jnp.asarray(case["features"]), case["labels"], jnp.asarray(case[stored]), **arguments)
    case.check(what, value)
    case.check(f"{what}_grad_features", gradients[0])
    case.check(f"{what}_grad_{stored}", gradients[1])


@pytest.mark.parametrize("what, loss, stored", [
    ("triplet_cosine_m03", lambda features, labels: losses.triplet(features, labels, 0.3, "cosine"), "features"),
    ("triplet_cosine_config59",
     lambda features, labels: losses.triplet(features, labels, 4.4132437486402204e-05, "cosine"), "features"),
    ("triplet_euclidean_m03", lambda features, labels: losses.triplet(features, labels, 0.3), "features"),
    ("label_smooth", lambda logits, labels: losses.cross_entropy(logits, labels, 0.1), "logits"),
    ("cross_entropy", losses.cross_entropy, "logits")])
@pytest.mark.parametrize("name", golden_cases.names("ftwft_losses"))
def test_the_other_losses_are_those_of_ft_wft(name, what, loss, stored):
    case = Case("ftwft_losses", name)
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(case[stored]), case["labels"])
    case.check(what, value)
    case.check(f"{what}_grad_{stored}", gradient)


@pytest.mark.parametrize("name", golden_cases.names("ftwft_losses"))
def test_the_recipe_of_ft_wft_adds_them_as_its_released_configuration_59(name):
    case, settings = Case("ftwft_losses", name), recipe("ftwft").loss
    settings.attention_weight = 0.0

    def total(features, logits, centres):
        return objective(settings, Output([logits], [features], None), case["labels"], None, centres[None])[0]

    value, gradients = jax.value_and_grad(total, (0, 1, 2))(
        jnp.asarray(case["features"]), jnp.asarray(case["logits"]), jnp.asarray(case["centers"]))
    case.check("total_config59", value)
    for stored, gradient in zip(("features", "logits", "centers"), gradients, strict=True):
        case.check(f"total_config59_grad_{stored}", gradient)
    moved = moved_centres(settings, jnp.asarray(case["centers"])[None], gradients[2][None])[0]
    np.testing.assert_allclose(moved, case["centers"] - 0.5 / 0.0005 * gradients[2], rtol=1e-5, atol=1e-5)


def test_a_batch_without_a_second_sample_of_anybody_has_no_positive_pairs():
    features = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4)), jnp.float32)
    value, gradient = jax.value_and_grad(losses.osm_caa)(features, jnp.arange(3), jnp.eye(3, 4))
    assert value > 0 and np.isfinite(gradient).all()


def test_attention_on_erased_frames_by_hand():
    logits, erased = jnp.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]), jnp.array([[1, 0, 1], [0, 0, 0]], bool)
    assert losses.attention_on_erased(logits, erased) == 2.5
