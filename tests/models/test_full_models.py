"""Whole networks with the weights of `tests/golden/weightgen.py`, against the authors' code."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models, weights
from cfaan_jax.train import losses
from tests import golden_cases
from tests.golden import weightgen
from tests.golden_cases import FOLDER, Case
from tests.models.test_axial import POSITIONAL
from tests.models.transplants import gradients, named, thorough_jit

pytestmark = pytest.mark.slow

CLASSES = 10


def network(case: Case) -> models.VideoReID:
    """The network of a case, filled with its weights."""
    settings, name, options = case.settings, case.name, {}
    if name not in models.SYSTEMS:  # a variant, which says its options
        name, options = "cfaan", dict(scales=settings["scales"], heads=settings["heads"],
                                      positional=POSITIONAL[settings["positional"]])
    model = models.create(name, num_classes=CLASSES, clip_length=settings["frames"], **options)
    weights.load_torch(model, weightgen.draw_all(shapes(case.name, settings["frames"]), settings["weight_salt"]))
    return model


def shapes(name: str, frames: int) -> dict[str, tuple[int, ...]]:
    """For ten identities. The listed shapes are those of six frames; tables along the time axis follow their number."""
    variants = json.loads((FOLDER / "state_dict_keys_variants.json").read_text())
    listed = variants.get(name) or {key: shape for key, (shape, _) in golden_cases.torch_names()[name].items()}
    changed = listed | {"classifier.weight": [CLASSES, 2048]}
    for key, shape in listed.items():
        if ".axial_gran." in key and int(key.split(".axial_gran.")[1].split(".")[0]) % 3 == 2:
            changed[key] = {"relative": [shape[0], 2 * frames - 1] if len(shape) == 2 else shape,
                            "flatten_index": [frames * frames]}.get(key.rsplit(".")[-1], shape)
    return changed


def clips(seed: int, shape: list[int]) -> np.ndarray:
    """`[B, T, H, W, 3]`"""
    return np.moveaxis(weightgen.clip(seed, shape), 2, -1)


@pytest.mark.parametrize("name", golden_cases.names("full_models_eval"))
def test_the_feature_is_the_references(name):
    case = Case("full_models_eval", name)
    model = network(case)
    graph, state = nnx.split(model)

    @jax.jit
    def features(state, clips, rectangles):
        model = nnx.merge(graph, state)
        return model.features(clips), model.features(clips, rectangles)

    found = features(state, clips(case.settings["clip_seed"], case.settings["clip_shape"]),
                     case["masks"].astype(np.int32))
    for what, feature in zip(("feature", "feature_masked"), found, strict=True):
        np.testing.assert_allclose(feature, case[what], rtol=0, atol=1e-3, err_msg=what)


@pytest.mark.parametrize("name", golden_cases.names("full_models_train_step"))
def test_a_training_step_is_the_references(name):
    """In float64: in float32 a ReLU that rounding turns over moves some gradients by more than the tolerance."""
    case = Case("full_models_train_step", name)
    settings = case.settings
    model = network(case)
    model.train()
    shape = (settings["batch"], settings["frames"], 3, 256, 128)
    with jax.enable_x64(True):
        nnx.update(model, jax.tree.map(lambda value: value.astype(np.float64), nnx.state(model)))
        found, grads, _, statistics = gradients(
            model, lambda model, *inputs: default_losses(model(*inputs), case["labels"]), (),
            (clips(settings["clip_seed"], shape).astype(np.float64), case["masks"].astype(np.int32)), thorough_jit)
        for what, value in found.items():
            case.check(what, value)
        check_gradients(case, named(model, grads))
        after = named(model, statistics)
    case.check("post_running_mean_abs", [np.abs(after[key]).mean() for key in settings["post_keys"]])


def default_losses(output, labels: np.ndarray) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of the default recipe, and what the file holds of it."""
    (scores,), (feature,), _ = output
    triplet, identity = losses.triplet(feature, labels), losses.cross_entropy(scores, labels)
    return triplet + identity, dict(score=scores, global_feat=feature, triplet=triplet, id_loss=identity,
                                    loss=triplet + identity)


def check_gradients(case: Case, grads: dict[str, np.ndarray]) -> None:
    norms = np.array([np.linalg.norm(grads[key].astype(np.float64)) for key in case.settings["grad_norm_keys"]])
    off, allowed = abs(norms - case["grad_norm_f64"]), 10 * case["grad_norm_noise"] + 1e-3 * case["grad_norm_f64"]
    wrong = [f"{key}: {norm:.6g}, off by {by:.2g}, allowed {limit:.2g}" for key, norm, by, limit in
             zip(case.settings["grad_norm_keys"], norms, off, allowed, strict=True) if by > limit]
    assert not wrong, "\n".join(wrong)
    for key in case.group("grad_first32"):
        case.check(f"grad_first32/{key}", grads[key].reshape(-1)[:32])
