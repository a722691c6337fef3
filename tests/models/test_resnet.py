"""The convolutions of the backbone against those of the compiler, with gradients."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models
from cfaan_jax.errors import InputError
from cfaan_jax.models import winograd
from cfaan_jax.models.convolution import Convolution


def of_the_compiler(x, kernel, stride):
    border = (kernel.shape[0] // 2, kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border),
                                        dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("height, width", [(8, 4), (7, 5), (2, 3), (1, 1), (1, 17), (35, 31)])
@pytest.mark.parametrize("size, stride, channels", [
    (1, 1, (3, 5)), (1, 2, (3, 5)), (3, 1, (3, 5)), (3, 1, (64, 70)), (3, 2, (3, 5)), (7, 2, (3, 5)), (5, 1, (3, 5))])
def test_convolutions_and_their_gradients(height, width, size, stride, channels):
    rng = np.random.default_rng(0)
    convolution = Convolution(*channels, size, stride, rng)
    x = jnp.asarray(rng.standard_normal((2, height, width, channels[0])), jnp.float32)
    y, transposed = jax.vjp(lambda kernel, x: of_the_compiler(x, kernel, stride), convolution.kernel[...], x)
    graphdef, params = nnx.split(convolution)
    ours, ours_transposed = jax.vjp(lambda params, x: nnx.merge(graphdef, params)(x), params, x)
    np.testing.assert_allclose(ours, y, atol=1e-5)
    gradient = jnp.asarray(rng.standard_normal(y.shape), jnp.float32)
    (for_params, for_x), expected = ours_transposed(gradient), transposed(gradient)
    # The largest map adds up thousands of products.
    atol = max(1e-4, 2e-6 * np.abs(expected[0]).max())
    np.testing.assert_allclose(for_params["kernel"][...], expected[0], atol=atol)
    np.testing.assert_allclose(for_x, expected[1], atol=1e-5)


@pytest.mark.parametrize("frames, channels, kind, transformed", [
    (2, 64, np.float32, True), (1, 64, np.float32, False), (2, 63, np.float32, False), (2, 64, jnp.bfloat16, False),
    (2, 64, np.float16, False)])
def test_what_is_convolved_by_winograds_products(frames, channels, kind, transformed):
    convolution = Convolution(channels, 64, 3, 1, np.random.default_rng(0))
    x = jax.ShapeDtypeStruct((frames, 35, 31, channels), kind)
    for platform in ("cpu", "tpu", "cuda"):
        program = jax.jit(convolution).trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in program) == (platform != "cpu" or not transformed)


@pytest.mark.parametrize("frames, height, width", [(16, 66, 63), (24, 32, 64), (11, 64, 64), (9, 129, 66)])
def test_many_frames_are_convolved_some_at_a_time(frames, height, width):
    rng = np.random.default_rng(frames)
    x, kernel = rng.standard_normal((frames, height, width, 3)), rng.standard_normal((3, 3, 3, 4))
    with jax.enable_x64(True):
        found = jax.jit(winograd.convolved)(x, kernel)
        assert " while(" in jax.jit(winograd.convolved).lower(x, kernel).as_text("hlo")
        np.testing.assert_allclose(found, of_the_compiler(x, kernel, 1), atol=1e-12)


def test_rounding_is_not_worse_than_the_compilers():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((4, 16, 8, 256)), rng.standard_normal((3, 3, 256, 32)) / 48
    with jax.enable_x64(True):
        exact = np.asarray(of_the_compiler(x, kernel, 1))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    off, compilers = (np.square(np.asarray(convolved, np.float64) - exact).mean() for convolved in
                      (winograd.convolved(x, kernel), of_the_compiler(x, kernel, 1)))
    assert off < 2 * compilers


def test_each_device_convolves_its_own_frames():
    """In a process of its own, where there are eight devices."""
    done = subprocess.run([sys.executable, "-c", _ON_EIGHT], env=os.environ | _EIGHT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "0"]


_EIGHT = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
_ON_EIGHT = """
import jax, numpy as np
from cfaan_jax.models import winograd
from cfaan_jax.sharding import data_mesh, over_batch, replicated
mesh = data_mesh()
where = over_batch(mesh, 48)
x, kernel = np.ones((48, 64, 64, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)
placed = jax.jit(winograd.convolved, in_shardings=(where, replicated(mesh)), out_shardings=where)
text = placed.lower(x, kernel).compile().as_text()
print(" while(" in text, sum(text.count(kind) for kind in ("all-gather", "all-to-all", "collective-permute")))
"""


@pytest.mark.parametrize("name, shape, kind, said", [
    ("p3d", (1, 4, 64, 32, 3), np.uint8, "type uint8: give normalised float clips"),
    ("c2d", (1, 4, 3, 64, 32), np.float32, "shape \\(1, 4, 3, 64, 32\\)"),
    ("c2d", (0, 4, 64, 32, 3), np.float32, "shape \\(0, 4, 64, 32, 3\\): give at least one"),
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
