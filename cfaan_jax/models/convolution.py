"""Convolutions, with the ways around what compilers are slow at, each where it is one."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.models import initial, winograd
from cfaan_jax.models.linear import on_channels
from cfaan_jax.models.pooling import windows
from cfaan_jax.models.precision import matching

_FEW_CELLS = 16  # maps with fewer are convolved as products of matrices
# With fewer of either, transforming costs more than the multiplications that it saves.
_MANY_CHANNELS = 64
_MANY_CELLS = 2048


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
        return _convolved(x, kernel, stride)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolved(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution that is, with its gradients, faster on CPUs than XLA's own, which is slowest inside loops."""
    own = partial(_of_the_compiler, stride=stride)
    if not _has_transform(x, kernel, stride):
        return own(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.convolved, default=own)


def _of_the_compiler(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    border = (kernel.shape[0] // 2, kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border),
                                        dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _has_transform(x: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Whether `winograd` is for it: no short numbers, which its sums would round too much, nor a number yet unknown."""
    if kernel.shape[:2] != (3, 3) or stride != 1 or x.dtype not in (jnp.float32, jnp.float64):
        return False
    if not all(isinstance(size, int) for size in x.shape):
        return False
    return min(kernel.shape[2:]) >= _MANY_CHANNELS and math.prod(x.shape[:3]) >= _MANY_CELLS


def _input_gradient(kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """Of stride 1: the gradient of the output, convolved with the kernel from behind."""
    kernel = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    convolved = winograd.convolved if _has_transform(gradient, kernel, 1) else _of_the_compiler
    return convolved(gradient, kernel)


def _kernel_gradient(x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int) -> jax.Array:
    """One product of matrices for each place of the kernel: the input under it times the gradient of the output."""
    gradient = gradient.reshape(-1, gradient.shape[-1])
    under = windows(x, kernel.shape[0], stride, fill=0.0)
    return jnp.stack([each.reshape(-1, each.shape[-1]).T @ gradient for each in under]).reshape(kernel.shape)


def _backward(stride: int, inputs: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = inputs
    # What the compiler would do is dropped from programs for CPUs, which do not use it.
    for_x, for_kernel = jax.vjp(partial(_of_the_compiler, stride=stride), x, kernel)[1](gradient)
    if stride == 1:
        for_x = jax.lax.platform_dependent(kernel, gradient, cpu=_input_gradient, default=lambda *_, it=for_x: it)
    return for_x, jax.lax.platform_dependent(
        x, kernel, gradient, cpu=partial(_kernel_gradient, stride=stride), default=lambda *_: for_kernel)


_convolved.defvjp(lambda x, kernel, stride: (_convolved(x, kernel, stride), (x, kernel)), _backward)
