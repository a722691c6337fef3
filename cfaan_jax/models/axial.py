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
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import BackboneHooks, BlockSite
from cfaan_jax.models.layers.batch_norm import BatchNorm
from cfaan_jax.models.layers.dense import dense, normal, uniform
from cfaan_jax.models.layers.pooling import adaptive_max_pool, upsample_nearest
from cfaan_jax.models.layers.precision import cast_to, upcast

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
        length, axis: positions along the axis, which is "h", "w" or "t".
        heads, positional, groups: see `AxialSettings` and `BatchNorm`.
        rng: draws the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, heads: int, length: int, axis: str, positional: str, groups: int,
                 rng: np.random.Generator):
        self.heads, self.length, self.axis, self.positional = heads, length, AXES[axis], positional
        self.value_depth, self.key_depth = outputs // heads, outputs // heads // 2
        if self.key_depth * 2 * heads != outputs:
            raise InputError(f"axial attention with {outputs} channels cannot have {heads} heads: each head needs an "
                             "even share; choose other heads, scales, width or inter_channels")
        rows = {"relative": 2 * self.value_depth, "relative_q": self.key_depth}.get(positional)
        terms, parts = {"relative": (3, 2), "relative_q": (2, 1)}.get(positional, (1, 1))
        self.qkv = normal(rng, (inputs, 2 * outputs), math.sqrt(1 / inputs))
        self.relative = None if rows is None else normal(rng, (rows, 2 * length - 1), math.sqrt(1 / self.value_depth))
        self.bn_qkv = BatchNorm(2 * outputs, groups=groups)
        self.bn_similarity = BatchNorm(terms * heads, groups=groups)
        self.bn_output = BatchNorm(parts * outputs, groups=groups)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, H, W, inputs]` -> `[B, T, H, W, outputs]`."""
        query, key, value = self.project(x)
        parts = [self.to_grid(part, x.shape) for part in self.read(self.attend(query, key), value)]
        return reduce(jnp.add, self.bn_output.parts(parts, interleaved=True))

    def project(self, x: jax.Array) -> list[jax.Array]:
        """`[B, T, H, W, inputs]` -> queries, keys `[N, heads, L, depth / 2]`, values `[N, heads, L, depth]` by line."""
        if self.positional == "sinusoidal":
            others = [axis for axis in range(4) if axis != self.axis]
            x = x + jnp.expand_dims(sinusoid(self.length, x.shape[-1]).astype(x.dtype), others)
        qkv = self.bn_qkv(dense(x, cast_to(self.qkv, x)))
        by_head = qkv.reshape(*x.shape[:4], self.heads, 2 * self.value_depth)
        lines = jnp.moveaxis(by_head, self.axis, 4).reshape(-1, self.heads, self.length, 2 * self.value_depth)
        return jnp.split(lines, (self.key_depth, 2 * self.key_depth), axis=-1)

    def attend(self, query: jax.Array, key: jax.Array) -> jax.Array:
        """Queries and keys as `project` gives them -> softmax over p in eq. 4, `[N, heads, o, p]`."""
        r_q, r_k, _ = self._relative_positions(query)
        terms = [jax.vmap(lambda q, k: jnp.einsum("mod,mpd->mop", q, k))(query, key)]  # eq. 4: q_o . k_p
        if r_q is not None:
            terms.append(relative_logits(query, r_q))  # eq. 4: q_o . r^q_{p-o}
        if r_k is not None:
            terms.append(relative_logits(key, r_k).mT)  # eq. 4: k_p . r^k_{p-o}
        logits = reduce(jnp.add, map(upcast, self.bn_similarity.parts(terms, axis=1)))
        return jax.nn.softmax(logits, axis=-1).astype(query.dtype)  # eq. 4: softmax_p

    def read(self, attention: jax.Array, value: jax.Array) -> list[jax.Array]:
        """`[N, heads, o, p]` and values -> the sums of v_p and of r^v_{p-o} in eq. 4, `[N, heads, L, depth]` each."""
        parts = [jax.vmap(lambda a, v: jnp.einsum("mop,mpc->moc", a, v))(attention, value)]  # eq. 4: v_p
        if (r_v := self._relative_positions(value)[2]) is not None:
            parts.append(relative_values(attention, r_v))  # eq. 4: r^v_{p-o}
        return parts

    def _relative_positions(self, x: jax.Array) -> tuple[jax.Array | None, ...]:
        """r^q, r^k, r^v of eq. 4 by distance, `[depth, 2 L - 1]` in the dtype of `x`, None where there is none.

        Heads share them. Column j holds the distance p - o = j - (L - 1) for queries and values, o - p for keys, whose
        rows the released code looks up the other way round.
        """
        if self.relative is None:
            return None, None, None
        rows = cast_to(self.relative, x)[:, ::-1]
        if self.positional == "relative_q":
            return rows, None, None
        return tuple(jnp.split(rows, (self.key_depth, 2 * self.key_depth)))

    def to_grid(self, lines: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """`[N, heads, L, d]` -> `[B, T, H, W, heads * d]`, where B, T, H, W begin `shape`."""
        others = [length for axis, length in enumerate(shape[:4]) if axis != self.axis]
        return jnp.moveaxis(lines.reshape(*others, *lines.shape[1:]), 4, self.axis).reshape(*shape[:4], -1)


@jax.jit  # with a name by which `utilisation.macs` knows it
def relative_logits(x: jax.Array, table: jax.Array) -> jax.Array:
    """Products with the vectors of a table by distance: `[N, heads, L, d]`, `[d, 2 L - 1]` -> `[N, heads, L, L]`."""
    return by_position(jnp.einsum("nmod,dj->nmoj", x, table))


@jax.jit
def relative_values(attention: jax.Array, table: jax.Array) -> jax.Array:
    """Sums of a table's vectors over positions: `[N, heads, L, L]`, `[c, 2 L - 1]` -> `[N, heads, L, c]`."""
    shape = jax.ShapeDtypeStruct((*attention.shape[:-1], table.shape[-1]), attention.dtype)
    by_distance, = jax.linear_transpose(by_position, shape)(attention)
    return jnp.einsum("nmoj,cj->nmoc", by_distance, table)


def by_position(x: jax.Array) -> jax.Array:
    """`[..., L, 2 L - 1]`, where column j of row o is the distance j - (L - 1) -> `[..., o, p]` at distance p - o."""
    x = jax.lax.optimization_barrier(x)  # XLA's products for GPUs cannot take what follows, or its transpose, along
    *others, length, distances = x.shape
    padded = jnp.pad(x, [(0, 0)] * (len(others) + 1) + [(0, 1)])  # 2 L columns: row o begins at 2 L o
    rows = jax.lax.slice_in_dim(padded.reshape(*others, -1), length - 1, length - 1 + length * distances, axis=-1)
    return jax.lax.slice_in_dim(rows.reshape(*others, length, distances), 0, length, axis=-1)


def sinusoid(length: int, channels: int) -> jax.Array:
    """Sine and cosine of the position at falling frequencies, `[length, channels]` (Vaswani et al. 2017)."""
    position, channel = jnp.arange(length)[:, None], jnp.arange(channels)
    angle = position / _SINUSOID_BASE ** (2 * (channel // 2) / channels)
    return jnp.where(channel % 2 == 0, jnp.sin(angle), jnp.cos(angle))


class CoarseToFineBlock(nnx.Module):
    """Attends the axes in turn at several scales and adds the result to its input (eq. 5 and figure 3).

    The channels are split over the scales. Scale s, from 0, is max-pooled by 2^s, attended and up-sampled.

    Args:
        channels, size: of input and output; the size is frames, rows and columns.
        settings, groups: see `AxialSettings` and `BatchNorm`.
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
        for layers, share in zip(self.scales, self.split_scales(x), strict=True):
            for axis in self.settings.order:  # eq. 5: AA_T(AA_W(AA_H(x)))
                share = layers["hwt".index(axis)](share)
            outputs.append(upsample_nearest(upsample_nearest(share, 2, height), 3, width))
        y = dense(jnp.concatenate(outputs, axis=-1), cast_to(self.expansion, x))
        return x + self.bn2(y)  # eq. 5

    def split_scales(self, x: jax.Array) -> Iterator[jax.Array]:
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
