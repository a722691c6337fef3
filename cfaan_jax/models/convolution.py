"""Convolutions, with the ways around what compilers are slow at, each where it is one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.models import initial, winograd
from cfaan_jax.models.linear import on_channels
from cfaan_jax.models.pooling import windows
from cfaan_jax.models.precision import matching

_FEW_CELLS = 16  # maps with fewer are convolved as products of matrices
_MANY_CHANNELS = 64  # with fewer, transforming costs more than the multiplications that it saves


class Convolution(nnx.Module):
    """A square convolution without bias, padded to keep the size; kernel `[k, k, in, out]`.

    A 1x1 convolution is a product of matrices over the strided positions, and so is any convolution to a map of a few
    cells: on a CPU both are several times faster in training than XLA's convolution, with the same result.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, rng: np.random.Generator):
        he = math.sqrt(2 / (size * size * outputs))  # fan out: torchvision's initialisation
        self.kernel = initial.normal(rng, (size, size, inputs, outputs), he)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, in]` -> `[N, ceil(H / stride), ceil(W / stride), out]`."""
        kernel, stride = matching(self.kernel, x), self.stride
        size = kernel.shape[0]
        if size == 1:
            return on_channels(x[:, ::stride, ::stride], kernel[0, 0])
        if -(-x.shape[1] // stride) * -(-x.shape[2] // stride) < _FEW_CELLS:
            patches = jnp.concatenate(windows(x, size, stride, fill=0.0), axis=-1)
            return on_channels(patches, kernel.reshape(-1, kernel.shape[-1]))
        return _same_size(x, kernel) if stride == 1 else _convolved(x, kernel, stride)


def _convolved(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    border = (kernel.shape[0] // 2, kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border),
                                        dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _same_size(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of stride 1 that is, with its gradients, faster on CPUs than XLA's own."""
    if not _has_transform(x, kernel):
        return _convolved(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.convolved, default=_convolved)


def _has_transform(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `winograd` is for it: not bfloat16, which its sums would round too much, nor a number yet unknown."""
    large = kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= _MANY_CHANNELS
    return large and x.dtype != jnp.bfloat16 and all(isinstance(length, int) for length in x.shape)


def _input_gradient(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    return winograd.convolved(gradient, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))


def _kernel_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """One product of matrices for each place of the kernel: the input under it times the gradient of the output."""
    gradient = gradient.reshape(-1, gradient.shape[-1])
    places = [under.reshape(-1, under.shape[-1]).T @ gradient for under in windows(x, kernel.shape[0], 1, fill=0.0)]
    return jnp.stack(places).reshape(kernel.shape)


def _same_size_backward(inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    # What the compiler would do is dropped from programs for CPUs, which do not use it.
    for_x, for_kernel = jax.vjp(_convolved, x, kernel)[1](gradient)
    if _has_transform(x, kernel):
        for_x = jax.lax.platform_dependent(kernel, gradient, cpu=_input_gradient, default=lambda *_, it=for_x: it)
    return for_x, jax.lax.platform_dependent(x, kernel, gradient, cpu=_kernel_gradient, default=lambda *_: for_kernel)


_same_size.defvjp(lambda x, kernel: (_same_size(x, kernel), (x, kernel)), _same_size_backward)
