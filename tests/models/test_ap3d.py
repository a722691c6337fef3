"""P3D-C and the appearance-preserving module, against the authors' code."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax.models.ap3d import Alignment, TemporalConvolution
from cfaan_jax.models.layers.conv import Convolution
from cfaan_jax.models.resnet import apply_to_clips
from tests import golden_cases
from tests.data_prep.checks import check_refused
from tests.golden_cases import Case
from tests.models.transplants import Transplant, check_against_reference, small_network


class SpaceThenTime(nnx.Module):
    """The 3x3 convolution of a bottleneck and what is added to it, on whole clips."""

    def __init__(self, conv2: Convolution, within: TemporalConvolution):
        self.conv2, self.within = conv2, within

    def __call__(self, x):
        batch, frames = x.shape[:2]
        y = self.conv2(x.reshape(-1, *x.shape[2:]))
        return (y + apply_to_clips(self.within, y, frames)).reshape(batch, frames, *y.shape[1:])


class Taps(nnx.Module):
    """What the module of the reference gives: three frames for each one."""

    def __init__(self, align: Alignment):
        self.align = align

    def __call__(self, x):
        before, after = self.align(x)
        return jnp.stack([before, x, after], axis=2).reshape(len(x), -1, *x.shape[2:])


def transplant(case: Case) -> Transplant:
    settings, rng = case.settings, np.random.default_rng(0)
    alone, aligned = settings["cls"] == "APM", settings["cls"] != "P3DC"
    outputs = settings["in_channels" if alone else "out_channels"]
    host = small_network("ap3d", contrastive=settings["contrastive_att"]) if aligned else small_network("p3d")
    align = Alignment(outputs, settings["contrastive_att"], rng) if aligned else None
    bottleneck = host.backbone.stages[1][0]
    bottleneck.within = TemporalConvolution(outputs, align)
    if alone:
        return Transplant(host, Taps(align), "layer2.0.conv2.APM.")
    bottleneck.conv2 = Convolution(settings["in_channels"], outputs, 3, settings["stride"], rng)
    return Transplant(host, SpaceThenTime(bottleneck.conv2, bottleneck.within), "layer2.0.conv2.")


@pytest.mark.parametrize("name", golden_cases.names("ap3d"))
def test_a_convolution_along_time_is_the_references(name):
    case = Case("ap3d", name)
    check_against_reference(case, transplant(case))


def test_a_network_too_narrow_for_semantic_channels_is_refused():
    check_refused("8 channels.*at least 16.*width", small_network, "ap3d", width=4)


def test_a_convolution_along_time_starts_as_nothing():
    within = TemporalConvolution(16, Alignment(16, True, np.random.default_rng(0)))
    assert not within(np.random.default_rng(1).standard_normal((1, 3, 2, 2, 16), np.float32)).any()


def test_alignment_finds_what_has_moved():
    """Two frames of orthogonal vectors in another order: each position finds its own again."""
    align = Alignment(16, False, np.random.default_rng(0))
    align.semantic = nnx.Param(jnp.eye(16))
    frame = np.eye(16, dtype=np.float32).reshape(4, 4, 16)
    before, after = align(jnp.asarray(np.stack([frame, frame[::-1, ::-1]])[None]))
    place = np.arange(16).reshape(4, 4)
    np.testing.assert_array_equal(np.argmax(after[0, 0], axis=-1), place)
    np.testing.assert_array_equal(np.argmax(before[0, 1], axis=-1), place[::-1, ::-1])
    assert not before[0, 0].any() and not after[0, 1].any()
