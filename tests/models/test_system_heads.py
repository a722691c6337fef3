"""The heads of AP3D and FT-WFT without a backbone, against the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models, weights
from cfaan_jax.models.ftwft import FrameAttention
from cfaan_jax.models.heads import Head
from cfaan_jax.models.registry import SYSTEMS
from cfaan_jax.train import losses
from tests import golden_cases
from tests.golden_cases import Case, channels_first, channels_last
from tests.models.transplants import gradients, named


class Maps(nnx.Module):
    """Stands in for a backbone: the clips are the maps."""

    depths = (1, 1, 1, 1)

    def __call__(self, clips):
        return clips


def bare(name: str, case: Case, channels: int, frame_weights: nnx.Module | None = None) -> models.VideoReID:
    """A network without a backbone, with the weights of a case."""
    system, classes = SYSTEMS[name], case.settings["classes"]
    head = Head(channels, classes, system.head, 1, np.random.default_rng(0))
    model = models.VideoReID(name, Maps(), frame_weights, [head], system.head, system.hooks(), system.layout)
    weights.load_torch(model, case.group("param"))
    return model


def training(model: models.VideoReID, total, maps: jax.Array):
    """`total(output) -> (value, what is looked at)` in training mode: that, gradients, and statistics afterwards."""
    model.train()
    found, grads, (of_maps,), statistics = gradients(model, lambda model, maps: total(model(maps)), (maps,))
    return found, of_maps, named(model, grads), named(model, statistics)


AP3D = [name for name in golden_cases.names("ap3d_head_losses") if name.startswith("head_")]


@pytest.mark.parametrize("name", AP3D)
def test_the_feature_of_ap3d_is_the_references(name):
    case = Case("ap3d_head_losses", name)
    maps = jnp.asarray(channels_last(case["x"]))
    model = bare("ap3d", case, maps.shape[-1])
    case.check("frame_features_eval", model.head_settings.pool(maps, None))
    case.check("feature_eval", model.features(maps))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", AP3D)
def test_training_of_ap3d_is_the_references(name, distance):
    case = Case("ap3d_head_losses", name)
    maps, labels, what = jnp.asarray(channels_last(case["x"])), case["labels"], f"{distance}_m03"

    def total(output):
        triplet = losses.triplet(output.features[0], labels, 0.3, distance)
        entropy = losses.cross_entropy(output.logits[0], labels)
        return triplet + entropy, {
            "score_train": output.logits[0], "feature_train": output.features[0], "cross_entropy_train": entropy,
            f"{what}/triplet": triplet, f"{what}/loss": triplet + entropy}

    found, of_maps, grads, after = training(bare("ap3d", case, maps.shape[-1]), total, maps)
    for key, value in found.items():
        case.check(key, value)
    case.check(f"{what}/grad_x", channels_first(of_maps))
    for key in case.group(f"{what}/grad_param"):
        case.check(f"{what}/grad_param/{key}", grads[key])
    for key in case.group("post"):
        case.check(f"post/{key}", after[key])


def ftwft(case: Case) -> tuple[models.VideoReID, jax.Array]:
    settings = case.settings
    attention = FrameAttention(tuple(settings["attention_kernel"]), settings["channels"], settings["middle_dim"],
                               np.random.default_rng(0))
    return bare("ftwft", case, settings["channels"], attention), jnp.asarray(np.moveaxis(case["x"], 2, -1))


@pytest.mark.parametrize("name", golden_cases.names("ftwft_head"))
def test_the_feature_of_ft_wft_is_the_references(name):
    case = Case("ftwft_head", name)
    model, maps = ftwft(case)
    logits = model.frame_weights(maps)
    case.check("attention_logits_eval", logits)
    weights_of_frames = jax.nn.softmax(logits, axis=1)
    case.check("attention_eval", weights_of_frames)
    case.check("pooled_eval", jnp.einsum("bt,btc->bc", weights_of_frames, model.head_settings.pool(maps, None)))
    case.check("feature_eval", model.features(maps))
    of_maps = jax.grad(lambda maps: (model.features(maps) * case["ct_feature"]).sum())(maps)
    case.check("grad_x_eval", np.moveaxis(of_maps, -1, 2))


@pytest.mark.parametrize("name", [name for name in golden_cases.names("ftwft_head")
                                  if Case("ftwft_head", name).group("grad_param_train")])
def test_training_of_ft_wft_is_the_references(name):
    case = Case("ftwft_head", name)
    model, maps = ftwft(case)
    frozen = case["param/classifier.bn.bias"]

    def total(output):
        attention = losses.attention_on_erased(output.frame_logits, case["erased"])
        value = (output.features[0] * case["ct_feature"]).sum() + (output.logits[0] * case["ct_score"]).sum()
        return value + attention, {
            "attention_logits_train": output.frame_logits, "feature_train": output.features[0],
            "score_train": output.logits[0], "attention_loss_train": attention}

    found, of_maps, grads, after = training(model, total, maps)
    for key, value in found.items():
        case.check(key, value)
    case.check("grad_x_train", np.moveaxis(of_maps, -1, 2))
    for key in sorted(set(case.group("grad_param_train")) - {"classifier.bn.bias"}):
        case.check(f"grad_param_train/{key}", grads[key])
    np.testing.assert_array_equal(after["classifier.bn.bias"], frozen)
    for key in case.group("post"):
        case.check(f"post/{key}", after[key])
