"""The convolutions of the backbone against those of the compiler, with gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models
from cfaan_jax.errors import InputError
from cfaan_jax.models.resnet import Convolution


def of_the_compiler(x, kernel, stride):
    border = (kernel.shape[0] // 2, kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border),
                                        dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("height, width", [(8, 4), (7, 5), (2, 3), (1, 1), (1, 17)])
@pytest.mark.parametrize("size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2), (5, 1)])
def test_convolutions_and_their_gradients(height, width, size, stride):
    rng = np.random.default_rng(0)
    convolution = Convolution(3, 5, size, stride, rng)
    x = jnp.asarray(rng.standard_normal((2, height, width, 3)), jnp.float32)
    y, transposed = jax.vjp(lambda kernel, x: of_the_compiler(x, kernel, stride), convolution.kernel[...], x)
    graphdef, params = nnx.split(convolution)
    ours, ours_transposed = jax.vjp(lambda params, x: nnx.merge(graphdef, params)(x), params, x)
    np.testing.assert_allclose(ours, y, atol=1e-5)
    gradient = jnp.asarray(rng.standard_normal(y.shape), jnp.float32)
    (for_params, for_x), expected = ours_transposed(gradient), transposed(gradient)
    np.testing.assert_allclose(for_params["kernel"][...], expected[0], atol=1e-4)
    np.testing.assert_allclose(for_x, expected[1], atol=1e-5)


@pytest.mark.parametrize("name, shape, kind, said", [
    ("p3d", (1, 4, 64, 32, 3), np.uint8, "type uint8: give normalised float clips"),
    ("c2d", (1, 4, 3, 64, 32), np.float32, "shape \\(1, 4, 3, 64, 32\\)"),
    ("c2d", (4, 64, 32, 3), np.float32, "shape \\(4, 64, 32, 3\\)"),
    ("tclnet", (3, 1, 64, 32, 3), np.float32, "clips of 1 frames: this network takes 4"),
    ("cfaan", (1, 3, 64, 32, 3), np.float32, "clips of 3 frames: this network takes 4"),
    ("cfaan", (1, 4, 96, 48, 3), np.float32, "frames of 96 x 48 pixels: this network takes 64 x 32"),
    ("ftwft", (1, 4, 96, 48, 3), np.float32, "frames of 96 x 48 pixels: this network takes 64 x 32"),
])
def test_clips_that_a_network_does_not_take_are_named(name, shape, kind, said):
    model = models.create(name, num_classes=3, clip_length=4, image_size=(64, 32), width=8, depths=(1, 1, 1, 1))
    with pytest.raises(InputError, match=said):
        model.features(np.zeros(shape, kind))
