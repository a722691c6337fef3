"""Coarse-to-Fine Axial Attention, CF-AA (section 3.2). N is the set of all positions p of a clip, o one of them.

    eq. 2, non-local:           y_o = sum_{p in N} softmax_p(q_o . k_p) v_p
    eq. 3, along one axis:      the same sum over the positions p on the line of o along that axis
    eq. 4, position-sensitive:  y_o = sum_p softmax_p(q_o . k_p + q_o . r^q_{p-o} + k_p . r^k_{p-o}) (v_p + r^v_{p-o})
    eq. 5, height, width, time: x' = x + Conv(AA_T(AA_W(AA_H(x))))

As in the released code, each term of the logits and both parts of the output have a batch normalisation of their own
before they are summed, the block's convolution has one too, and no logit is divided by the root of the depth.

Letters in einsum strings: o query position, p key position, m head, d channel of a query or key, c channel of a value.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import BackboneHooks, BlockSite
from cfaan_jax.models.layers.batch_norm import BatchNorm
from cfaan_jax.models.layers.dense import dense, normal, uniform
from cfaan_jax.models.layers.pooling import adaptive_max_pool, upsample_nearest
from cfaan_jax.models.layers.precision import accumulation_dtype, cast_to

AXES = {"h": 2, "w": 3, "t": 1}  # of height, width and time in [B, T, H, W, C]
POSITIONAL = ("none", "sinusoidal", "relative", "relative_q")
_SINUSOID_BASE = 1000.0  # the released code's; 10,000 is usual


@dataclass(frozen=True)
class AxialSettings(BackboneHooks):
    """The options of a CF-AA block; the defaults are the published network (section 4.2).

    Attributes:
        scales: number of scales S, each with an equal share of the channels; scale s works on a map 2^s times smaller.
        heads: heads of all scales together, a multiple of `scales`.
        positional: "relative" (eq. 4: learnt distances for queries, keys and values), "relative_q" (for queries only),
            "sinusoidal" (added to the input of each axis) or "none".
        order: in which order the axes are attended.
        inter_channels: channels inside the block; None keeps those of the backbone.
    """

    scales: int = 4
    heads: int = 8
    positional: str = "relative"
    order: str = "hwt"
    inter_channels: int | None = None

    any_length = False
    any_size = False
    torch_names = (
        (r"reduction", "conv_down.weight", 3),
        (r"expansion", "conv_up.weight", 3),
        (r"scales\.(\d+)\.(\d+)\.qkv", "axial_gran.{axis}.qkv_transform.weight", 1),
        (r"scales\.(\d+)\.(\d+)\.(relative)", "axial_gran.{axis}.{3}", 0),
        (r"scales\.(\d+)\.(\d+)\.(bn_\w+)\.(\w+)", "axial_gran.{axis}.{3}.{4}", 0),
    )

    def __post_init__(self):
        if self.positional not in POSITIONAL:
            raise InputError(f"positional={self.positional!r}: choose one of {', '.join(POSITIONAL)}")
        if sorted(self.order) != sorted(AXES):
            raise InputError(f"order={self.order!r}: write each of h, w and t once, such as 'hwt'")
        if self.scales < 1 or self.heads < 1 or self.heads % self.scales:
            raise InputError(f"scales={self.scales}, heads={self.heads}: heads must be a multiple of scales")
        if self.inter_channels is not None and self.inter_channels < 1:
            raise InputError(f"inter_channels={self.inter_channels}: give at least 1, or None for the backbone's")

    def after_block(self, site: BlockSite, rng: np.random.Generator) -> "CoarseToFineBlock | None":
        """A block at each of `CF_AA_SITES`."""
        return CoarseToFineBlock(site.channels, site.size, self, site.groups, rng) if site.has_cf_aa else None


class AxialAttention(nnx.Module):
    """Position-sensitive self-attention along one axis, AA in eq. 5, by eq. 4. One projection gives q, k and v.

    Args:
        inputs, outputs: channels; outputs is a multiple of 2 * heads.
        heads: number of heads.
        length: positions along the axis.
        axis: "h", "w" or "t".
        positional: see `AxialSettings`.
        groups: see `BatchNorm`.
        rng: draws the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, heads: int, length: int, axis: str, positional: str, groups: int,
                 rng: np.random.Generator):
        self.heads, self.length, self.axis, self.positional = heads, length, AXES[axis], positional
        self.value_depth = outputs // heads
        self.key_depth = self.value_depth // 2
        if self.key_depth * 2 * heads != outputs:
            raise InputError(f"axial attention with {outputs} channels cannot have {heads} heads: each head needs an "
                             "even share; choose other heads, scales, width or inter_channels")
        rows = {"relative": 2 * self.value_depth, "relative_q": self.key_depth}.get(positional)
        terms = {"relative": 3, "relative_q": 2}.get(positional, 1)
        parts = 2 if positional == "relative" else 1
        self.qkv = normal(rng, (inputs, 2 * outputs), math.sqrt(1 / inputs))
        self.relative = None if rows is None else normal(rng, (rows, 2 * length - 1), math.sqrt(1 / self.value_depth))
        self.bn_qkv = BatchNorm(2 * outputs, groups=groups)
        self.bn_similarity = BatchNorm(terms * heads, groups=groups)
        self.bn_output = BatchNorm(parts * outputs, groups=groups)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, inputs]` -> `[B, T, H, W, outputs]`."""
        query, key, value = self.project(self._to_lines(x))
        return self._to_grid(self.read(self.attend(query, key), value), x.shape)

    def attention(self, x: jax.Array) -> jax.Array:
        """The softmax of eq. 4: of each position o to those of its line, `[B, T, H, W, heads, length]`."""
        query, key, _ = self.project(self._to_lines(x))
        return self._to_grid(jnp.moveaxis(self.attend(query, key), 1, 2), x.shape)

    def project(self, lines: jax.Array) -> list[jax.Array]:
        """`[N, L, inputs]` -> queries, keys `[N, L, heads, depth / 2]` and values `[N, L, heads, depth]`."""
        # Fused with the transposition of the lines, the gradient of this product ends XLA's compiler for NVIDIA GPUs.
        qkv = jax.lax.optimization_barrier(dense(lines.reshape(-1, lines.shape[-1]), cast_to(self.qkv, lines)))
        qkv = self.bn_qkv(qkv).reshape(*lines.shape[:2], self.heads, 2 * self.value_depth)
        return jnp.split(qkv, (self.key_depth, 2 * self.key_depth), axis=-1)

    def attend(self, query: jax.Array, key: jax.Array) -> jax.Array:
        """Queries and keys as `project` gives them -> softmax over p in eq. 4, `[N, heads, o, p]`."""
        r_q, r_k, _ = self._relative_positions(query)
        einsum = partial(jnp.einsum, preferred_element_type=accumulation_dtype(query))
        terms = [jax.vmap(lambda q, k: einsum("omd,pmd->mop", q, k))(query, key)]  # eq. 4: q_o . k_p
        if r_q is not None:
            terms.append(jax.vmap(lambda q: einsum("omd,dop->mop", q, r_q))(query))  # eq. 4: q_o . r^q_{p-o}
        if r_k is not None:
            terms.append(jax.vmap(lambda k: einsum("pmd,dop->mop", k, r_k))(key))  # eq. 4: k_p . r^k_{p-o}
        normalised = self.bn_similarity(jnp.concatenate(terms, axis=1), axis=1)
        logits = normalised.reshape(query.shape[0], len(terms), *terms[0].shape[1:]).sum(axis=1)
        return jax.nn.softmax(logits, axis=-1)  # eq. 4: softmax_p

    def read(self, attention: jax.Array, value: jax.Array) -> jax.Array:
        """`[N, heads, o, p]` and values -> the sum over p in eq. 4, heads concatenated: `[N, L, outputs]`."""
        *_, r_v = self._relative_positions(value)
        attention = attention.astype(value.dtype)
        parts = [jax.vmap(lambda a, v: jnp.einsum("mop,pmc->omc", a, v))(attention, value)]  # eq. 4: v_p
        if r_v is not None:
            parts.append(jax.vmap(lambda a: jnp.einsum("mop,cop->omc", a, r_v))(attention))  # eq. 4: r^v_{p-o}
        interleaved = jnp.stack(parts, axis=-1).reshape(*value.shape[:2], -1)
        return self.bn_output(interleaved).reshape(*value.shape[:2], -1, len(parts)).sum(axis=-1)

    def _relative_positions(self, x: jax.Array) -> tuple[jax.Array | None, jax.Array | None, jax.Array | None]:
        """r^q, r^k, r^v of eq. 4 as `[channels, o, p]` in the dtype of `x`, None where there is none.

        Heads share them. Queries and values look up the distance o - p, keys p - o, as the released code does.
        """
        if self.relative is None:
            return None, None, None
        position = jnp.arange(self.length)
        distance = position[:, None] - position[None, :] + self.length - 1
        rows = cast_to(self.relative, x)
        if self.positional == "relative_q":
            return rows[:, distance], None, None
        query, key, value = jnp.split(rows, (self.key_depth, 2 * self.key_depth))
        return query[:, distance], key[:, distance.T], value[:, distance]

    def _to_lines(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, C]` -> the lines along the axis, `[N, length, C]`."""
        lines = jnp.moveaxis(x, self.axis, 3).reshape(-1, self.length, x.shape[-1])
        return lines + sinusoid(*lines.shape[1:]).astype(x.dtype) if self.positional == "sinusoidal" else lines

    def _to_grid(self, lines: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """`[N, length, ...]` -> `[B, T, H, W, ...]`, where B, T, H, W begin `shape`."""
        others = [length for axis, length in enumerate(shape[:4]) if axis != self.axis]
        return jnp.moveaxis(lines.reshape(*others, *lines.shape[1:]), 3, self.axis)


def sinusoid(length: int, channels: int) -> jax.Array:
    """Sine and cosine of the position at falling frequencies, `[length, channels]` (Vaswani et al. 2017)."""
    position = jnp.arange(length)[:, None]
    channel = jnp.arange(channels)
    angle = position / _SINUSOID_BASE ** (2 * (channel // 2) / channels)
    return jnp.where(channel % 2 == 0, jnp.sin(angle), jnp.cos(angle))


class CoarseToFineBlock(nnx.Module):
    """Attends the axes in turn at several scales and adds the result to its input (eq. 5 and figure 3).

    The channels are split over the scales. Scale s, from 0, is max-pooled by 2^s, attended and up-sampled.

    Args:
        channels, size: of input and output; the size is frames, rows and columns.
        settings: see `AxialSettings`.
        groups: see `BatchNorm`.
        rng: draws the initial weights.
    """

    def __init__(self, channels: int, size: tuple[int, int, int], settings: AxialSettings, groups: int,
                 rng: np.random.Generator):
        reduces = settings.inter_channels is not None
        inner = settings.inter_channels or channels
        if inner % settings.scales:
            raise InputError(f"{inner} channels cannot be split over scales={settings.scales}")
        self.settings = settings
        self.reduction = uniform(rng, (channels, inner), math.sqrt(1 / channels)) if reduces else None
        self.bn1 = BatchNorm(inner, groups=groups) if reduces else None
        frames, height, width = size
        self.scales: nnx.List[nnx.List[AxialAttention]] = nnx.List([])
        for scale in range(settings.scales):
            rows, columns = pooled_size(height, width, scale)
            share, heads = inner // settings.scales, settings.heads // settings.scales
            self.scales.append(nnx.List([
                AxialAttention(share, share, heads, length, axis, settings.positional, groups, rng)
                for axis, length in (("h", rows), ("w", columns), ("t", frames))]))
        self.expansion = uniform(rng, (inner, channels), math.sqrt(1 / inner))  # Conv in eq. 5
        self.bn2 = BatchNorm(channels, groups=groups, zero_init=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, channels]` -> the same."""
        height, width = x.shape[2:4]
        outputs = []
        for layers, share in zip(self.scales, self._split_scales(x), strict=True):
            for axis in self.settings.order:  # eq. 5: AA_T(AA_W(AA_H(x)))
                share = layers["hwt".index(axis)](share)
            outputs.append(upsample_nearest(upsample_nearest(share, 2, height), 3, width))
        y = dense(jnp.concatenate(outputs, axis=-1), cast_to(self.expansion, x))
        return x + self.bn2(y)  # eq. 5

    def attention(self, x: jax.Array) -> list[dict[str, jax.Array]]:
        """Attention inside the block, averaged over the heads of each scale.

        Args:
            x: `[B, T, H, W, channels]`, the block's input.

        Returns:
            For each scale and axis `[B, T, rows, columns, length]`, the attention of every position of that scale's map
            to the positions of its line along the axis.
        """
        maps: list[dict[str, jax.Array]] = []
        for layers, share in zip(self.scales, self._split_scales(x), strict=True):
            maps.append({})
            for axis in self.settings.order:
                layer = layers["hwt".index(axis)]
                maps[-1][axis] = layer.attention(share).mean(axis=-2)
                share = layer(share)
        return maps

    def _split_scales(self, x: jax.Array) -> Iterator[jax.Array]:
        """Each scale's share of the channels, pooled to its map."""
        y, (height, width) = x, x.shape[2:4]
        if self.reduction is not None and self.bn1 is not None:
            y = nnx.relu(self.bn1(dense(x, cast_to(self.reduction, x))))
        for scale, share in enumerate(jnp.split(y, self.settings.scales, axis=-1)):
            rows, columns = pooled_size(height, width, scale)
            yield adaptive_max_pool(adaptive_max_pool(share, 2, rows), 3, columns)


def pooled_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Rows and columns of the map at a scale; at least one, which small images need."""
    return max(1, height >> scale), max(1, width >> scale)
