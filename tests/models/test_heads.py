"""Masked pooling, BN neck and classifier, against the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cfaan_jax.models import SYSTEMS
from cfaan_jax.models.heads import Head, masked_average
from tests import golden_cases
from tests.golden_cases import Case
from tests.models.transplants import gradients


def pooling_case(name: str) -> tuple[Case, jax.Array, jax.Array | None]:
    """A case, its maps `[B, T, H, W, C]` and its rectangles."""
    case = Case("clip_pooling", name)
    arrays, _ = golden_cases.read("clip_pooling")
    maps = np.moveaxis(arrays["feature_map"], 2, -1)
    return case, maps, arrays["masks"].astype(np.int32) if case.settings["masks"] else None


def loaded_head(case: Case) -> Head:
    arrays, _ = golden_cases.read("clip_pooling")
    classes, channels = arrays["param/classifier.weight"].shape
    head = Head(channels, classes, SYSTEMS[case.settings["model"]].head, 1, np.random.default_rng(0))
    head.classifier[...] = arrays["param/classifier.weight"].T
    for ours, theirs in dict(scale="weight", mean="running_mean", var="running_var").items():
        getattr(head.neck, ours)[...] = arrays[f"param/bottleneck.{theirs}"]
    return head


@pytest.mark.parametrize("name", golden_cases.names("clip_pooling"))
def test_the_feature_is_the_references(name):
    case, maps, rectangles = pooling_case(name)
    frames = masked_average(maps, rectangles)
    head = loaded_head(case)
    head.eval()
    after_neck = case.settings["neck_feat"] == "after"
    case.check("out_eval", head(frames)[1] if after_neck else frames.mean(1))


@pytest.mark.parametrize("name", [name for name in golden_cases.names("clip_pooling") if "_after_" in name])
def test_training_is_the_references(name):
    case, maps, rectangles = pooling_case(name)
    arrays, _ = golden_cases.read("clip_pooling")
    head = loaded_head(case)
    head.train()

    def total(head, maps):
        frames = masked_average(maps, rectangles)
        scores, _ = head(frames)
        number = (scores * arrays["ct_score"]).sum() + (frames.mean(1) * arrays["ct_feat"]).sum()
        return number, (scores, frames.mean(1))

    (scores, feature), grads, (grad_maps,), statistics = gradients(head, total, (jnp.asarray(maps),))
    case.check("train_score", scores)
    case.check("train_global_feat", feature)
    case.check("train_grad_feature_map", np.moveaxis(grad_maps, -1, 2))
    case.check("train_grad_bn_weight", grads["neck"]["scale"][...])
    case.check("train_grad_classifier", grads["classifier"][...].T)
    case.check("post/bottleneck.running_mean", statistics["neck"]["mean"][...])
    case.check("post/bottleneck.running_var", statistics["neck"]["var"][...])


def test_pooling_counts_only_cells_inside_the_rectangle():
    maps = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4, 1)  # rows 0 1 2 3 and 4 5 6 7
    for rectangle, expected in [((0, 2, 0, 4), 3.5), ((0, 1, 1, 3), 1.5), ((1, 2, 3, 4), 7.0), ((0, 2, 2, 4), 4.5)]:
        assert float(masked_average(maps, np.array(rectangle).reshape(1, 1, 4))[0, 0, 0]) == expected, rectangle


def test_a_rectangle_without_a_cell_is_0_and_has_a_finite_gradient():
    maps, empty = jnp.ones((1, 1, 4, 4, 3)), np.array([2, 2, 1, 3]).reshape(1, 1, 4)
    assert not masked_average(maps, empty).any()
    assert np.isfinite(jax.grad(lambda maps: masked_average(maps, empty).sum())(maps)).all()
