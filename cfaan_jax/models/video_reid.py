"""The networks by name: backbone and head put together from one record of settings each."""

from dataclasses import fields, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.axial import CoarseToFineBlock
from cfaan_jax.models.backbone_hooks import Additions
from cfaan_jax.models.heads import Head, HeadSettings, joined_branches
from cfaan_jax.models.layers.precision import COMPUTE, widened
from cfaan_jax.models.registry import SYSTEMS, System, TorchLayout
from cfaan_jax.models.resnet import STRIDE, ResNet, ResNetSettings, places

HEADS = ("own", "cfaan")


class Output(NamedTuple):
    """What the losses see of a batch.

    Attributes:
        scores: for each branch of the head, `[B, classes]`.
        features: for each branch the features that losses compare, `[B, D]`.
        frame_logits: by which frames are weighed, `[B, T]`; None where all count alike.
    """

    scores: list[jax.Array]
    features: list[jax.Array]
    frame_logits: jax.Array | None


class VideoReID(nnx.Module):
    """A network that turns clips into features and identity scores; made by `create`, ready for evaluation.

    Args:
        name: see below.
        backbone: gives the maps.
        frame_weights: see `Additions`.
        heads: one for each branch.
        head_settings: of all heads.
        additions: what the network adds to a plain ResNet-50.
        layout: the names of its weights in torch.

    Attributes:
        name: its name in `SYSTEMS`.
        stride: pixels to a cell of its last feature map.
        feature_size: length of a feature.
        any_length: whether it takes clips of any length.
    """

    def __init__(self, name: str, backbone: ResNet, frame_weights: nnx.Module | None, heads: list[Head],
                 head_settings: HeadSettings, additions: Additions, layout: TorchLayout):
        self.name, self.stride = name, STRIDE
        self.backbone, self.frame_weights = backbone, frame_weights
        self.head, self.further_heads = heads[0], nnx.List(heads[1:])
        self.head_settings, self.additions, self.layout = head_settings, additions, layout
        self.any_length = additions.any_length
        self.feature_size = sum(head.classifier.shape[0] for head in heads)
        self.eval()

    def __call__(self, clips: jax.Array, rectangles: jax.Array | None = None) -> Output:
        """What training compares.

        Args:
            clips: normalised float `[B, T, H, W, 3]`.
            rectangles: int `[B, T, 4]`, (y0, y1, x0, x1) of the real pixels in cells of the last feature map, end
                exclusive; None for whole frames.
        """
        shares, logits = self._shares(clips, rectangles)
        found = [(*head(frames), frames.mean(1)) for head, frames in shares]
        scores, behind, before = (list(each) for each in zip(*found, strict=True))
        return Output(scores, behind if self.head_settings.compared_behind_neck else before, logits)

    def features(self, clips: jax.Array, rectangles: jax.Array | None = None) -> jax.Array:
        """The evaluation feature of each clip, `[B, D]`; arguments as for a call.

        Not normalised to unit length; but where the head has several branches each one's share is.

        Raises:
            ValueError: the model is in training mode.
        """
        return self.tracklet_features(self.clip_features(clips, rectangles))

    def clip_features(self, clips: jax.Array, rectangles: jax.Array | None = None) -> jax.Array:
        """What is averaged over the clips of a tracklet, `[B, D]`; as `features` otherwise."""
        if not self.head.neck.use_running_average:
            raise ValueError("features are taken in evaluation mode: call model.eval() first")
        shares, _ = self._shares(clips, rectangles)
        return jnp.concatenate([head(frames)[1] if self.head_settings.feature_behind_neck else frames.mean(1)
                                for head, frames in shares], axis=-1)

    def tracklet_features(self, means: jax.Array) -> jax.Array:
        """The features of tracklets from the means of `clip_features` over their clips, `[N, D]` each."""
        return joined_branches(means, self.head_settings.branches)

    def _shares(self, clips: jax.Array,
                rectangles: jax.Array | None) -> tuple[list[tuple[Head, jax.Array]], jax.Array | None]:
        """Each head with its pooled frames `[B, T / branches, C]`, and the logits of the frames' weights `[B, T]`."""
        maps = self.backbone(clips)
        frames, logits = self.head_settings.pool(widened(maps), rectangles), None
        if self.frame_weights is not None:
            logits = widened(self.frame_weights(maps))
            # The heads take the mean over frames; that of frames times T times their weights is the weighted sum.
            frames = frames * (frames.shape[1] * jax.nn.softmax(logits, axis=1))[..., None]
        heads = (self.head, *self.further_heads)
        return [(head, frames[:, branch::len(heads)]) for branch, head in enumerate(heads)], logits

    def attention(self, clips: jax.Array, block: int = -1) -> list[dict[str, jax.Array]]:
        """Attention inside one CF-AA block, see `CoarseToFineBlock.attention`.

        Args:
            clips: normalised float `[B, T, H, W, 3]`.
            block: see `axial_block`; the last one is the nearest to the feature.
        """
        _, chosen = self.axial_block(block)
        return chosen.attention(self.backbone(clips, until=chosen))

    def axial_block(self, number: int) -> tuple[str, CoarseToFineBlock]:
        """A CF-AA block and the layer behind which it stands, such as "conv4_6".

        Args:
            number: counted from 0 in the order in which a clip passes through them, or from the last one, which is -1.
        Raises:
            InputError: the network has no such block.
        """
        blocks = [(f"conv{stage + 2}_{place + 1}", block) for stage, blocks in enumerate(self.backbone.attention)
                  for place, block in enumerate(blocks) if isinstance(block, CoarseToFineBlock)]
        if not -len(blocks) <= number < len(blocks):
            raise InputError(f"CF-AA block {number}: this network has {len(blocks)} of them, counted from 0")
        return blocks[number]


def create(name: str, *, num_classes: int, clip_length: int = 6, image_size: tuple[int, int] = (256, 128),
           width: int = 64, depths: tuple[int, ...] = (3, 4, 6, 3), bn_groups: int = 1, compute: str = "float32",
           remat: bool = False, head: str = "own", seed: int = 0, **options) -> VideoReID:
    """Builds a network with freshly drawn weights, in evaluation mode; call `.train()` on it to train.

    Without width and depths this is the published network:

    Examples:
        >>> from cfaan_jax import models
        >>> model = models.create("cfaan", num_classes=625, scales=4, heads=8, positional="relative", width=8,
        ...                       depths=(1, 1, 1, 1))
        >>> model.name, model.feature_size, model.any_length
        ('cfaan', 256, False)

    Args:
        name: one of `SYSTEMS`.
        num_classes: training identities.
        clip_length: frames of a clip; networks whose `any_length` is False accept no other.
        image_size: height and width of a frame in pixels, multiples of 16; cfaan and ftwft accept no other.
        width, depths: see `ResNetSettings`; the defaults are ResNet-50.
        bn_groups: groups of the training batch with statistics of their own, see `BatchNorm`.
        compute: "float32", or "bfloat16" for the activations of everything before the pooling, see `precision`.
        remat: compute the activations inside bottlenecks and blocks again for the gradients, see `ResNetSettings`.
        head: "own": that of the network's publication; "cfaan": that of CF-AAN (paper, section 3.3) in its place.
        seed: of the initial weights.
        **options: the fields of the settings that `SYSTEMS` names, such as those of `AxialSettings` for cfaan.

    Raises:
        InputError: unknown name or option, or a size that does not fit.
    """
    system = _system(name, options)
    if clip_length < 1 or any(length < STRIDE or length % STRIDE for length in image_size):
        raise InputError(f"clip_length={clip_length}, image_size={tuple(image_size)}: a clip has at least one frame, "
                         f"and height and width are multiples of {STRIDE}")
    if len(depths) != 4 or min(depths) < 1:
        raise InputError(f"depths={tuple(depths)}: write the number of bottlenecks of four stages, at least 1 each")
    if head not in HEADS:
        raise InputError(f"head={head!r}: choose one of {', '.join(HEADS)}")
    if compute not in COMPUTE:
        raise InputError(f"compute={compute!r}: choose one of {', '.join(COMPUTE)}")
    own, additions, rng = head == "own", system.additions(**options), np.random.default_rng(seed)
    settings = ResNetSettings(width, tuple(depths), system.stem_relu, bn_groups, compute, remat)
    clip_size = (clip_length, *image_size)
    backbone = ResNet(settings, clip_size, additions, rng)
    frame_weights = additions.frame_weights(places(settings, clip_size)[-1][-1], rng)
    head_settings = system.head if own else HeadSettings()
    heads = [Head(settings.channels, num_classes, head_settings, bn_groups, rng) for _ in range(head_settings.branches)]
    plain = TorchLayout()
    layout = system.layout if own else replace(system.layout, prefix=plain.prefix, neck=plain.neck,
                                               classifier=plain.classifier)
    return VideoReID(name, backbone, frame_weights, heads, head_settings, additions, layout)


def _system(name: str, options: dict) -> System:
    if name not in SYSTEMS:
        raise InputError(f"model name {name!r}: choose one of {', '.join(SYSTEMS)}")
    known = {option.name for option in fields(SYSTEMS[name].additions)}
    if unknown := sorted(set(options) - known):
        raise InputError(f"model {name!r} has no option {', '.join(unknown)}; "
                         f"it has: {', '.join(sorted(known)) or 'none'}")
    return SYSTEMS[name]
