"""Square convolutions without bias."""

import math

import jax
import numpy as np
from flax import nnx

from cfaan_jax.models.layers.dense import dense, normal
from cfaan_jax.models.layers.precision import cast_to


class Convolution(nnx.Module):
    """A square convolution without bias, padded to keep the size; kernel `[k, k, in, out]`.

    A 1x1 convolution of stride 1 is a matrix product. A strided one is not: a strided slice in front of a product ends
    XLA's compiler for NVIDIA GPUs in jax 0.10.2 and 0.11.2.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, rng: np.random.Generator):
        he = math.sqrt(2 / (size * size * outputs))  # fan out, as in torchvision
        self.kernel = normal(rng, (size, size, inputs, outputs), he)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, in]` -> `[N, ceil(H / stride), ceil(W / stride), out]`."""
        kernel = cast_to(self.kernel, x)
        size = kernel.shape[0]
        if size == self.stride == 1:
            return dense(x, kernel[0, 0])
        padding = [(size // 2, size // 2)] * 2
        return jax.lax.conv_general_dilated(x, kernel, (self.stride, self.stride), padding,
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))
