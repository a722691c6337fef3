"""ResNet-50 in torchvision's first layout, with the last stride at 1 (paper, section 4.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.models import initial
from cfaan_jax.models.normalization import BatchNorm
from cfaan_jax.models.pooling import stem_max_pool, windows

EXPANSION = 4  # output channels of a bottleneck for each of its inner channels
STAGE_STRIDES = (1, 2, 2, 1)
_FEW_CELLS = 16  # maps with fewer are convolved as products of matrices
STRIDE = 16  # pixels to a cell of the last feature map, with those strides behind the stem's 4


@dataclass(frozen=True)
class ResNetSettings:
    """Size of the backbone.

    Attributes:
        width: inner channels of the first stage; ResNet-50 has 64.
        depths: bottlenecks of each stage.
        stem_relu: whether a ReLU follows the first normalisation. The released c2d and non-local networks lack it.
        groups: groups of the batch that share statistics in training, see `BatchNorm`.
    """

    width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 3)
    stem_relu: bool = True
    groups: int = 1

    @property
    def channels(self) -> int:
        """Channels of the last feature map."""
        return self.stage_channels(len(self.depths) - 1)

    def stage_channels(self, stage: int) -> int:
        """Channels of the output of a stage, counted from 0."""
        return EXPANSION * self.width * 2**stage


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
        kernel, stride = self.kernel[...], self.stride
        size = kernel.shape[0]
        if size == 1:
            return jnp.einsum("nhwc,cd->nhwd", x[:, ::stride, ::stride], kernel[0, 0])
        if -(-x.shape[1] // stride) * -(-x.shape[2] // stride) < _FEW_CELLS:
            patches = jnp.concatenate(windows(x, size, stride, fill=0.0), axis=-1)
            return jnp.einsum("nhwc,cd->nhwd", patches, kernel.reshape(-1, kernel.shape[-1]))
        border = (size // 2, size // 2)
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (border, border),
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))


class Bottleneck(nnx.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, each normalised, added to a shortcut."""

    def __init__(self, inputs: int, planes: int, stride: int, groups: int, rng: np.random.Generator):
        outputs = EXPANSION * planes
        shortcut = stride != 1 or inputs != outputs
        self.conv1 = Convolution(inputs, planes, 1, 1, rng)
        self.bn1 = BatchNorm(planes, groups=groups)
        self.conv2 = Convolution(planes, planes, 3, stride, rng)
        self.bn2 = BatchNorm(planes, groups=groups)
        self.conv3 = Convolution(planes, outputs, 1, 1, rng)
        self.bn3 = BatchNorm(outputs, groups=groups)
        self.shortcut_conv = Convolution(inputs, outputs, 1, stride, rng) if shortcut else None
        self.shortcut_bn = BatchNorm(outputs, groups=groups) if shortcut else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, in]` -> `[N, H / stride, W / stride, 4 * planes]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.shortcut_conv is None else self.shortcut_bn(self.shortcut_conv(x))
        return nnx.relu(y + shortcut)


class ResNet(nnx.Module):
    """The backbone; frames are folded into the batch for its 2-D layers.

    Args:
        settings: its size.
        attention: called as `attention(stage, block, channels)` behind every bottleneck; gives the block on whole clips
            that follows it, or None.
        rng: draws the initial weights.
    """

    def __init__(self, settings: ResNetSettings, attention: Callable[[int, int, int], nnx.Module | None],
                 rng: np.random.Generator):
        width, groups = settings.width, settings.groups
        self.conv1 = Convolution(3, width, 7, 2, rng)
        self.bn1 = BatchNorm(width, groups=groups)
        self.stem_relu = settings.stem_relu
        self.stages, self.attention = nnx.List([]), nnx.List([])
        inputs = width
        for stage, depth in enumerate(settings.depths):
            outputs = settings.stage_channels(stage)
            self.stages.append(nnx.List([]))
            self.attention.append(nnx.List([]))
            for block in range(depth):
                stride = STAGE_STRIDES[stage] if block == 0 else 1
                self.stages[stage].append(Bottleneck(inputs, outputs // EXPANSION, stride, groups, rng))
                self.attention[stage].append(attention(stage, block, outputs))
                inputs = outputs

    def __call__(self, clips: jax.Array, until: nnx.Module | None = None) -> jax.Array:
        """`[B, T, H, W, 3]` -> `[B, T, H / 16, W / 16, channels]`; or what reaches the block of attention `until`."""
        batch, frames = clips.shape[:2]
        x = self.bn1(self.conv1(clips.reshape(batch * frames, *clips.shape[2:])))
        x = stem_max_pool(nnx.relu(x) if self.stem_relu else x)
        for bottlenecks, attention in zip(self.stages, self.attention, strict=True):
            for bottleneck, attend in zip(bottlenecks, attention, strict=True):
                x = bottleneck(x)
                if attend is not None:
                    if attend is until:
                        return x.reshape(batch, frames, *x.shape[1:])
                    x = attend(x.reshape(batch, frames, *x.shape[1:])).reshape(x.shape)
        return x.reshape(batch, frames, *x.shape[1:])
