"""The convolutions of the backbone, derivatives of whole networks, and clips that they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models
from cfaan_jax.models.layers.conv import Convolution
from tests.data_prep.checks import check_refused
from tests.models.transplants import DISTINCT, small_network


@pytest.mark.parametrize("height, width", [(8, 4), (7, 5), (1, 17)])
@pytest.mark.parametrize("size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolutions_are_sums_over_the_window(height, width, size, stride):
    rng = np.random.default_rng(0)
    convolution = Convolution(3, 5, size, stride, rng)
    x = rng.standard_normal((2, height, width, 3), np.float32)
    border = size // 2
    padded = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
    expected = np.einsum("nhwcij,ijcd->nhwd", windows, convolution.kernel[...])
    np.testing.assert_allclose(convolution(jnp.asarray(x)), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTINCT)
def test_networks_have_forward_and_second_derivatives(name):
    """Against differences in float64: along a direction the features change by `jax.jvp`, and that by `jax.hessian`."""
    with jax.enable_x64(True):
        model = small_network(name, clip_length=4, image_size=(64, 32), width=16)
        rng, shape = np.random.default_rng(0), (1, 4, 64, 32, 3)
        clips, direction = rng.standard_normal(shape), rng.standard_normal(shape)
        graphdef, state = nnx.split(model)
        state = jax.tree.map(lambda leaf: leaf.astype(np.float64), state)

        def along(distance):
            return nnx.merge(graphdef, state).features(clips + distance * direction).sum()

        derivatives = jax.jit(lambda distance: (*jax.jvp(along, (distance,), (1.0,)), jax.hessian(along)(distance)))
        step = 1e-6
        before, middle, after = (np.array(derivatives(distance)) for distance in (-step, 0.0, step))
        value, slope = (after - before)[:2] / (2 * step)
        np.testing.assert_allclose(middle[1], value, rtol=1e-4)
        np.testing.assert_allclose(middle[2], slope, rtol=1e-3)


@pytest.mark.parametrize("name, shape, kind, said", [
    ("p3d", (1, 4, 64, 32, 3), np.uint8, "type uint8: give normalised float clips"),
    ("c2d", (1, 4, 3, 64, 32), np.float32, "shape \\(1, 4, 3, 64, 32\\)"),
    ("c2d", (0, 4, 64, 32, 3), np.float32, "shape \\(0, 4, 64, 32, 3\\): give at least one"),
    ("c2d", (4, 64, 32, 3), np.float32, "shape \\(4, 64, 32, 3\\)"),
    ("tclnet", (3, 1, 64, 32, 3), np.float32, "clips of 1 frames: this network takes 4"),
    ("cfaan", (1, 3, 64, 32, 3), np.float32, "clips of 3 frames: this network takes 4"),
    ("cfaan", (1, 4, 96, 48, 3), np.float32, "frames of 96 x 48 pixels: this network takes 64 x 32"),
    ("ftwft", (1, 4, 96, 48, 3), np.float32, "frames of 96 x 48 pixels: this network takes 64 x 32")])
def test_clips_that_a_network_does_not_take_are_named(name, shape, kind, said):
    check_refused(said, small_network(name, clip_length=4, image_size=(64, 32)).features, np.zeros(shape, kind))


@pytest.mark.parametrize("options, said", [
    (dict(width=0), "width=0: give a whole number of at least 1"), (dict(num_classes=0), "num_classes=0"),
    (dict(depths=3), "depths=3: give 4 whole numbers"), (dict(depths=(1, 1, 1, 0)), "depths="),
    (dict(image_size=256), "image_size=256: give 2 whole numbers"), (dict(clip_length="6"), "clip_length='6'"),
    (dict(image_size=(100, 50)), "height and width must be multiples of 16"), (dict(bn_groups=0), "bn_groups=0")])
def test_sizes_that_no_network_has_are_refused(options, said):
    check_refused(said, models.create, "c2d", **dict(num_classes=2) | options)
