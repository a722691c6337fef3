"""torchvision's ResNet-50 (stride in the 3x3), with the last stride at 1 (section 4.2), and a system's hooks in it."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.backbone_hooks import RESNET50_DEPTHS, BackboneHooks, BlockSite
from cfaan_jax.models.layers.batch_norm import BatchNorm
from cfaan_jax.models.layers.conv import Convolution
from cfaan_jax.models.layers.pooling import elementwise_max, windows

EXPANSION = 4  # output channels of a bottleneck for each of its inner channels
STAGE_STRIDES = (1, 2, 2, 1)
STRIDE = 16  # pixels to a cell of the last feature map: the stem's 4 times the stages'


@dataclass(frozen=True)
class ResNetSettings:
    """Size of the backbone."""

    width: int = 64  # inner channels of the first stage
    depths: tuple[int, ...] = RESNET50_DEPTHS  # bottlenecks of each stage
    stem_relu: bool = True  # a ReLU follows the first normalisation; the released c2d and non-local networks lack it
    groups: int = 1  # groups of the batch that share statistics in training, see `BatchNorm`
    compute: str = "float32"  # the compute dtype, see `layers.precision`
    remat: bool = False  # compute activations of bottlenecks and blocks again: less memory, a third more work

    def sites(self, clip_size: tuple[int, int, int]) -> list[list[BlockSite]]:
        """The bottlenecks of each stage, for clips of so many frames, rows and columns of pixels."""
        (frames, height, width), shrunk, inputs, stages = clip_size, 4, self.width, []
        for stage, (depth, stride) in enumerate(zip(self.depths, STAGE_STRIDES, strict=True)):
            shrunk *= stride
            planes = self.width * 2**stage
            channels = EXPANSION * planes
            size = (frames, height // shrunk, width // shrunk)
            stages.append([BlockSite(stage, block, depth, channels if block else inputs, planes, channels, size,
                                     self.groups) for block in range(depth)])
            inputs = channels
        return stages


class Bottleneck(nnx.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, each normalised, added to a shortcut.

    Args:
        site, inside_block: see `BlockSite` and `BackboneHooks`.
        rng: draws the initial weights.
    """

    def __init__(self, site: BlockSite, rng: np.random.Generator, inside_block: nnx.Module | None = None):
        stride = STAGE_STRIDES[site.stage] if site.block == 0 else 1
        has_projection = stride != 1 or site.inputs != site.channels
        self.conv1 = Convolution(site.inputs, site.planes, 1, 1, rng)
        self.bn1 = BatchNorm(site.planes, groups=site.groups)
        self.conv2 = Convolution(site.planes, site.planes, 3, stride, rng)
        self.within = inside_block  # the name of its weights in checkpoints
        self.bn2 = BatchNorm(site.planes, groups=site.groups)
        self.conv3 = Convolution(site.planes, site.channels, 1, 1, rng)
        self.bn3 = BatchNorm(site.channels, groups=site.groups)
        self.shortcut_conv = Convolution(site.inputs, site.channels, 1, stride, rng) if has_projection else None
        self.shortcut_bn = BatchNorm(site.channels, groups=site.groups) if has_projection else None

    def __call__(self, x: jax.Array, frames: int = 1) -> jax.Array:
        """`[B * frames, H, W, in]` -> `[B * frames, H / stride, W / stride, 4 * planes]`."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.conv2(y)
        if self.within is not None:
            y = y + apply_to_clips(self.within, y, frames)
        y = nnx.relu(self.bn2(y))
        y = self.bn3(self.conv3(y))
        if self.shortcut_conv is not None and self.shortcut_bn is not None:
            x = self.shortcut_bn(self.shortcut_conv(x))
        return nnx.relu(y + x)


def apply_to_clips(module: nnx.Module, x: jax.Array, frames: int) -> jax.Array:
    """Applies a module on whole clips to frames that are folded into the batch, `[B * frames, H, W, C]`."""
    y = module(x.reshape(-1, frames, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


class ResNet(nnx.Module):
    """The backbone; frames are folded into the batch for its 2-D layers.

    Args:
        settings, hooks: its size, and what the system adds to it.
        clip_size: frames, rows and columns of a clip in pixels.
        rng: draws the initial weights.

    Attributes:
        stages, attention: lists of bottlenecks, and for each the system's module after it (`after_block`), or None.
        last_stage: the module that replaces the last stage, or None.
    """

    def __init__(self, settings: ResNetSettings, clip_size: tuple[int, int, int], hooks: BackboneHooks,
                 rng: np.random.Generator):
        self.conv1 = Convolution(3, settings.width, 7, 2, rng)
        self.bn1 = BatchNorm(settings.width, groups=settings.groups)
        self.stem_relu, self.depths, self.compute = settings.stem_relu, settings.depths, settings.compute
        self.remat = settings.remat
        self.clip_size, self.any_length, self.any_size = clip_size, hooks.any_length, hooks.any_size
        self.stages: nnx.List[nnx.List[Bottleneck]] = nnx.List([])
        self.attention: nnx.List[nnx.List[nnx.Module | None]] = nnx.List([])
        *stages, last = settings.sites(clip_size)
        for sites in stages:
            self._add_stage(sites, hooks, rng)
        self.last_stage = hooks.last_stage(last[0], rng)
        if self.last_stage is None:
            self._add_stage(last, hooks, rng)

    def _add_stage(self, sites: list[BlockSite], hooks: BackboneHooks, rng: np.random.Generator) -> None:
        self.stages.append(nnx.List([]))
        self.attention.append(nnx.List([]))
        for site in sites:
            self.stages[-1].append(Bottleneck(site, rng, hooks.inside_block(site, rng)))
            self.attention[-1].append(hooks.after_block(site, rng))

    def __call__(self, clips: jax.Array, until: nnx.Module | None = None) -> jax.Array:
        """`[B, T, H, W, 3]` -> `[B, T, H / 16, W / 16, channels]`; or the input of `until`, one of `attention`.

        Raises:
            InputError: other clips than the network takes.
        """
        self._check(clips)
        frames = clips.shape[1]
        if self.compute != "float32":  # float64 stays as it is
            clips = clips.astype(self.compute)
        x = self.bn1(self.conv1(clips.reshape(-1, *clips.shape[2:])))
        x = nnx.relu(x) if self.stem_relu else x
        x = elementwise_max(windows(x, size=3, stride=2, fill=-jnp.inf))  # the stem's max pooling
        for bottlenecks, attention in zip(self.stages, self.attention, strict=True):
            for block, attend in zip(bottlenecks, attention, strict=True):
                x = self._apply(Bottleneck.__call__, block, x, frames)
                if attend is not None:
                    if attend is until:
                        return x.reshape(-1, frames, *x.shape[1:])
                    x = self._apply(apply_to_clips, attend, x, frames)
        if self.last_stage is not None:
            x = self._apply(apply_to_clips, self.last_stage, x, frames)
        return x.reshape(-1, frames, *x.shape[1:])

    def _apply(self, call: Callable, module: nnx.Module, x: jax.Array, frames: int) -> jax.Array:
        """`call(module, x, frames)`, with `remat` in training."""
        if not self.remat or self.bn1.use_running_average:
            return call(module, x, frames)
        return nnx.remat(lambda module, x: call(module, x, frames))(module, x)

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
