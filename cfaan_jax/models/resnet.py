"""ResNet-50 in torchvision's first layout, with the last stride at 1 (paper, section 4.2)."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import Additions, Place
from cfaan_jax.models.layers.batch_norm import BatchNorm
from cfaan_jax.models.layers.conv import Convolution
from cfaan_jax.models.layers.pooling import stem_max_pool

EXPANSION = 4  # output channels of a bottleneck for each of its inner channels
STAGE_STRIDES = (1, 2, 2, 1)
STRIDE = 16  # pixels to a cell of the last feature map, with those strides behind the stem's 4


@dataclass(frozen=True)
class ResNetSettings:
    """Size of the backbone.

    Attributes:
        width: inner channels of the first stage; ResNet-50 has 64.
        depths: bottlenecks of each stage.
        stem_relu: whether a ReLU follows the first normalisation. The released c2d and non-local networks lack it.
        groups: groups of the batch that share statistics in training, see `BatchNorm`.
        compute: in which numbers it computes, see `precision`.
        remat: in training, keep of each bottleneck and block of attention only what goes in, and compute the rest again
            for the gradients: less memory, a third more operations.
    """

    width: int = 64
    depths: tuple[int, ...] = (3, 4, 6, 3)
    stem_relu: bool = True
    groups: int = 1
    compute: str = "float32"
    remat: bool = False

    @property
    def channels(self) -> int:
        """Channels of the last feature map."""
        return self.stage_channels(len(self.depths) - 1)

    def stage_channels(self, stage: int) -> int:
        """Channels of the output of a stage, counted from 0."""
        return EXPANSION * self.width * 2**stage


class Bottleneck(nnx.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, each normalised, added to a shortcut.

    Args:
        inputs, planes: channels of the input and inside; the output has 4 * planes.
        stride: of the 3x3 convolution.
        groups: see `BatchNorm`.
        rng: draws the initial weights.
        within: see `Additions`.
    """

    def __init__(self, inputs: int, planes: int, stride: int, groups: int, rng: np.random.Generator,
                 within: nnx.Module | None = None):
        outputs = EXPANSION * planes
        shortcut = stride != 1 or inputs != outputs
        self.conv1 = Convolution(inputs, planes, 1, 1, rng)
        self.bn1 = BatchNorm(planes, groups=groups)
        self.conv2 = Convolution(planes, planes, 3, stride, rng)
        self.within = within
        self.bn2 = BatchNorm(planes, groups=groups)
        self.conv3 = Convolution(planes, outputs, 1, 1, rng)
        self.bn3 = BatchNorm(outputs, groups=groups)
        self.shortcut_conv = Convolution(inputs, outputs, 1, stride, rng) if shortcut else None
        self.shortcut_bn = BatchNorm(outputs, groups=groups) if shortcut else None

    def __call__(self, x: jax.Array, frames: int = 1) -> jax.Array:
        """`[B * frames, H, W, in]` -> `[B * frames, H / stride, W / stride, 4 * planes]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.conv2(y)
        if self.within is not None:
            y = y + on_clips(self.within, y, frames)
        y = nnx.relu(self.bn2(y))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.shortcut_conv is None else self.shortcut_bn(self.shortcut_conv(x))
        return nnx.relu(y + shortcut)


def on_clips(module: nnx.Module, x: jax.Array, frames: int) -> jax.Array:
    """Applies a module on whole clips to frames that are folded into the batch, `[B * frames, H, W, C]`."""
    y = module(x.reshape(-1, frames, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


class ResNet(nnx.Module):
    """The backbone; frames are folded into the batch for its 2-D layers.

    Args:
        settings: its size.
        clip_size: frames, rows and columns of a clip in pixels.
        additions: what the system adds to the plain ResNet.
        rng: draws the initial weights.

    Attributes:
        clip_size, any_length, any_size: see above, and `Additions`.
        stages: lists of bottlenecks.
        attention: for each of them what follows it, or None.
        last_stage: what takes the place of the last stage, or None.
    """

    def __init__(self, settings: ResNetSettings, clip_size: tuple[int, int, int], additions: Additions,
                 rng: np.random.Generator):
        self.conv1 = Convolution(3, settings.width, 7, 2, rng)
        self.bn1 = BatchNorm(settings.width, groups=settings.groups)
        self.stem_relu, self.depths, self.compute = settings.stem_relu, settings.depths, settings.compute
        self.remat = settings.remat
        self.clip_size, self.any_length, self.any_size = clip_size, additions.any_length, additions.any_size
        self.stages, self.attention = nnx.List([]), nnx.List([])
        *stages, last = places(settings, clip_size)
        for stage in stages:
            self._add(stage, additions, rng)
        self.last_stage = additions.last_stage(last[0], rng)
        if self.last_stage is None:
            self._add(last, additions, rng)

    def _add(self, stage: list[Place], additions: Additions, rng: np.random.Generator) -> None:
        self.stages.append(nnx.List([]))
        self.attention.append(nnx.List([]))
        for place in stage:
            self.stages[-1].append(bottleneck(place, rng, additions.within(place, rng)))
            self.attention[-1].append(additions.behind(place, rng))

    def __call__(self, clips: jax.Array, until: nnx.Module | None = None) -> jax.Array:
        """`[B, T, H, W, 3]` -> `[B, T, H / 16, W / 16, channels]`; or what reaches the block of attention `until`.

        Raises:
            InputError: other clips than the network takes.
        """
        self._check(clips)
        frames = clips.shape[1]
        if self.compute != "float32":  # what is given in float64 stays so
            clips = clips.astype(self.compute)
        x = self.bn1(self.conv1(clips.reshape(-1, *clips.shape[2:])))
        x = stem_max_pool(nnx.relu(x) if self.stem_relu else x)
        for bottlenecks, attention in zip(self.stages, self.attention, strict=True):
            for block, attend in zip(bottlenecks, attention, strict=True):
                x = self._through(Bottleneck.__call__, block, x, frames)
                if attend is not None:
                    if attend is until:
                        return x.reshape(-1, frames, *x.shape[1:])
                    x = self._through(on_clips, attend, x, frames)
        if self.last_stage is not None:
            x = self._through(on_clips, self.last_stage, x, frames)
        return x.reshape(-1, frames, *x.shape[1:])

    def _check(self, clips: jax.Array) -> None:
        if clips.ndim != 5 or clips.shape[-1] != 3 or not jnp.issubdtype(clips.dtype, jnp.floating):
            raise InputError(f"clips of shape {clips.shape} and type {clips.dtype}: give normalised float clips "
                             "[B, T, H, W, 3]")
        if clips.shape[0] == 0:
            raise InputError(f"clips of shape {clips.shape}: give at least one")
        (length, *size), (frames, *pixels) = self.clip_size, clips.shape[1:4]
        if not self.any_length and frames != length:
            raise InputError(f"clips of {frames} frames: this network takes {length}, its clip_length")
        if not self.any_size and pixels != size:
            raise InputError(f"frames of {pixels[0]} x {pixels[1]} pixels: this network takes {size[0]} x {size[1]}, "
                             "its image_size")

    def _through(self, call: Callable, module: nnx.Module, x: jax.Array, frames: int) -> jax.Array:
        """`call(module, x, frames)`, of which only the inputs are kept for the gradients if that was asked for."""
        if not self.remat or self.bn1.use_running_average:
            return call(module, x, frames)
        return nnx.remat(lambda module, x: call(module, x, frames))(module, x)


def places(settings: ResNetSettings, clip_size: tuple[int, int, int]) -> list[list[Place]]:
    """The bottlenecks of each stage, for clips of so many frames, rows and columns."""
    (frames, height, width), shrunk, inputs, stages = clip_size, 4, settings.width, []
    for stage, (depth, stride) in enumerate(zip(settings.depths, STAGE_STRIDES, strict=True)):
        shrunk *= stride
        channels = settings.stage_channels(stage)
        stages.append([Place(stage, block, depth - 1 - block, inputs if block == 0 else channels, channels // EXPANSION,
                              channels, (frames, height // shrunk, width // shrunk), settings.groups)
                        for block in range(depth)])
        inputs = channels
    return stages


def bottleneck(place: Place, rng: np.random.Generator, within: nnx.Module | None = None) -> Bottleneck:
    """The bottleneck of a place; `within` as in `Additions`."""
    stride = STAGE_STRIDES[place.stage] if place.block == 0 else 1
    return Bottleneck(place.inputs, place.planes, stride, place.groups, rng, within)
