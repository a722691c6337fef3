"""The non-local block (eq. 2; Wang et al. 2018, embedded Gaussian), with which Table 2 compares CF-AA."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import BackboneHooks, BlockSite
from cfaan_jax.models.layers.batch_norm import BatchNorm
from cfaan_jax.models.layers.dense import dense, normal, uniform
from cfaan_jax.models.layers.pooling import elementwise_max
from cfaan_jax.models.layers.precision import accumulation_dtype, cast_to


@dataclass(frozen=True)
class NonLocalSettings(BackboneHooks):
    """A non-local block as released; `sub_sample` halves rows and columns of keys and values by max pooling."""

    sub_sample: bool = False

    torch_names = (
        (r"theta\.kernel", "theta.weight", 3),
        (r"(phi|g)\.kernel", "{1}{pooled}.weight", 3),
        (r"(theta)\.(bias)", "{1}.{2}", 0),
        (r"(phi|g)\.bias", "{1}{pooled}.bias", 0),
        (r"w\.kernel", "W.0.weight", 3),
        (r"w\.bias", "W.0.bias", 0),
        (r"bn\.(\w+)", "W.1.{1}", 0),
    )

    def after_block(self, site: BlockSite, rng: np.random.Generator) -> "NonLocalBlock | None":
        """A block at each of `CF_AA_SITES`."""
        if site.has_cf_aa:
            return NonLocalBlock(site.channels, site.channels // 2, self, site.groups, rng)
        return None


class PointwiseLinear(nnx.Module):
    """A 1x1x1 convolution with bias, initialised as torch does; `he`: the kernel from He's normal one (fan out)."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, he: bool = False):
        bound, shape = math.sqrt(1 / inputs), (inputs, outputs)
        self.kernel = (normal(rng, shape, math.sqrt(2 / outputs)) if he
                       else uniform(rng, shape, bound))
        self.bias = uniform(rng, (outputs,), bound)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., inputs]` -> `[..., outputs]`."""
        return dense(x, cast_to(self.kernel, x)) + cast_to(self.bias, x)


class NonLocalBlock(nnx.Module):
    """Attention of every position of a clip to all others, added to its input.

    Names are those of the publication; eq. 2 calls theta, phi and g q, k and v, which have `inner` channels. W maps the
    weighted sum back to the channels of the input. The logits are not divided by the root of the depth.
    """

    def __init__(self, channels: int, inner: int, settings: NonLocalSettings, groups: int, rng: np.random.Generator):
        self.sub_sample = settings.sub_sample
        self.theta = PointwiseLinear(channels, inner, rng)
        self.phi = PointwiseLinear(channels, inner, rng)
        self.g = PointwiseLinear(channels, inner, rng)
        self.w = PointwiseLinear(inner, channels, rng)
        self.bn = BatchNorm(channels, groups=groups, zero_init=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, channels]` -> the same."""
        theta = _positions(self.theta(x))
        phi = _positions(self._pooled(self.phi(x)))
        g = _positions(self._pooled(self.g(x)))
        # eq. 2: y_o = sum_{p in N} softmax_p(q_o . k_p) v_p, where o is i, and p is j
        logits = jnp.einsum("bic,bjc->bij", theta, phi, preferred_element_type=accumulation_dtype(theta))
        attention = jax.nn.softmax(logits, axis=-1).astype(g.dtype)
        y = jnp.einsum("bij,bjc->bic", attention, g)
        return x + self.bn(self.w(y.reshape(*x.shape[:-1], -1)))

    def _pooled(self, x: jax.Array) -> jax.Array:
        """Maximum over 2x2 cells of a frame; an odd last row or column is left out."""
        if not self.sub_sample:
            return x
        rows, columns = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        if not rows or not columns:
            raise InputError(f"sub_sample=True: a map of {x.shape[2]}x{x.shape[3]} cells cannot be halved; use larger "
                             "images, or sub_sample=False")
        return elementwise_max([x[:, :, i:rows:2, j:columns:2] for i in range(2) for j in range(2)])


def _positions(x: jax.Array) -> jax.Array:
    """`[B, T, H, W, C]` -> `[B, T * H * W, C]`."""
    return x.reshape(x.shape[0], -1, x.shape[-1])
