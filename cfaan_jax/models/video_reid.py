"""The networks by name: backbone, attention and head put together from one record of settings each."""

from dataclasses import dataclass, fields

import jax
import numpy as np
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.models.axial import AxialSettings, CoarseToFineBlock
from cfaan_jax.models.heads import Head, masked_average
from cfaan_jax.models.non_local import NonLocalBlock, NonLocalSettings
from cfaan_jax.models.resnet import STRIDE, ResNet, ResNetSettings

# How many bottlenecks at the end of a stage are followed by attention: after conv3_3, 3_4, 4_4, 4_5 and 4_6 of
# ResNet-50 (paper, section 4.2).
_ATTENDED = {1: 2, 2: 3}


@dataclass(frozen=True)
class System:
    """What tells one network from another.

    Attributes:
        stem_relu: see `ResNetSettings`; the released value of each network.
        per_frame_head: see `Head`; the released value of each network.
        attention: the settings of its attention blocks, whose fields are the network's options; None: no blocks.
        feature_behind_neck: whether its evaluation feature is taken behind the BN neck or before it.
    """

    stem_relu: bool = True
    per_frame_head: bool = False
    attention: type[AxialSettings] | type[NonLocalSettings] | None = None
    feature_behind_neck: bool = True


SYSTEMS = {
    "c2d": System(stem_relu=False, per_frame_head=True),
    "nonlocal": System(stem_relu=False, attention=NonLocalSettings),
    "cfaan": System(attention=AxialSettings),
    "ide": System(feature_behind_neck=False),  # Zheng et al. 2016: classifier on single frames, pool5 feature
}


class VideoReID(nnx.Module):
    """A network that turns clips into features and identity scores; made by `create`, ready for evaluation.

    Attributes:
        name: its name in `SYSTEMS`.
        stride: pixels to a cell of its last feature map.
        feature_size: length of a feature.
    """

    def __init__(self, name: str, backbone: ResNet, head: Head, feature_size: int):
        self.name, self.stride, self.feature_size = name, STRIDE, feature_size
        self.backbone, self.head = backbone, head
        self.eval()

    def __call__(self, clips: jax.Array, rectangles: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Training: scores `[B, classes]` and the feature before the neck `[B, D]`.

        Args:
            clips: normalised float `[B, T, H, W, 3]`.
            rectangles: int `[B, T, 4]`, (y0, y1, x0, x1) of the real pixels in cells of the last feature map, end
                exclusive; None for whole frames.
        """
        frames = masked_average(self.backbone(clips), rectangles)
        scores, _ = self.head(frames)
        return scores, frames.mean(1)

    def features(self, clips: jax.Array, rectangles: jax.Array | None = None) -> jax.Array:
        """The evaluation feature of each clip, `[B, D]`; arguments as for a call. Not normalised to unit length.

        Raises:
            ValueError: the model is in training mode.
        """
        if not self.head.neck.use_running_average:
            raise ValueError("features are taken in evaluation mode: call model.eval() first")
        frames = masked_average(self.backbone(clips), rectangles)
        return self.head(frames)[1] if SYSTEMS[self.name].feature_behind_neck else frames.mean(1)

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
           width: int = 64, depths: tuple[int, ...] = (3, 4, 6, 3), bn_groups: int = 1, seed: int = 0,
           **options) -> VideoReID:
    """Builds a network with freshly drawn weights, in evaluation mode; call `.train()` on it to train.

        model = create("cfaan", num_classes=625, scales=4, heads=8, positional="relative")

    Args:
        name: one of `SYSTEMS`.
        num_classes: training identities.
        clip_length: frames of a clip; axial networks accept no other.
        image_size: height and width of a frame in pixels, multiples of 16; axial networks accept no other.
        width, depths: see `ResNetSettings`; the defaults are ResNet-50.
        bn_groups: groups of the training batch with statistics of their own, see `BatchNorm`.
        seed: of the initial weights.
        **options: the fields of `AxialSettings` for cfaan, of `NonLocalSettings` for nonlocal.

    Raises:
        InputError: unknown name or option, or a size that does not fit.
    """
    system = _system(name, options)
    if any(length < STRIDE or length % STRIDE for length in image_size):
        raise InputError(f"image_size={tuple(image_size)}: height and width must be multiples of {STRIDE}")
    if len(depths) != 4 or min(depths) < 1:
        raise InputError(f"depths={tuple(depths)}: write the number of bottlenecks of four stages, at least 1 each")
    attention_settings = system.attention(**options) if system.attention else None
    rng = np.random.default_rng(seed)

    def attention(stage: int, block: int, channels: int) -> nnx.Module | None:
        if attention_settings is None or block < depths[stage] - _ATTENDED.get(stage, 0):
            return None
        if isinstance(attention_settings, NonLocalSettings):
            return NonLocalBlock(channels, channels // 2, attention_settings, bn_groups, rng)
        rows, columns = (length // (4 * 2**stage) for length in image_size)
        return CoarseToFineBlock(channels, (clip_length, rows, columns), attention_settings, bn_groups, rng)

    settings = ResNetSettings(width, tuple(depths), system.stem_relu, bn_groups)
    backbone = ResNet(settings, attention, rng)
    head = Head(settings.channels, num_classes, system.per_frame_head, bn_groups, rng)
    return VideoReID(name, backbone, head, settings.channels)


def _system(name: str, options: dict) -> System:
    if name not in SYSTEMS:
        raise InputError(f"model name {name!r}: choose one of {', '.join(SYSTEMS)}")
    known = {option.name for option in fields(SYSTEMS[name].attention)} if SYSTEMS[name].attention else set()
    if unknown := sorted(set(options) - known):
        raise InputError(f"model {name!r} has no option {', '.join(unknown)}; "
                         f"it has: {', '.join(sorted(known)) or 'none'}")
    return SYSTEMS[name]
