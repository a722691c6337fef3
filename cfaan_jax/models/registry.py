"""The registry of networks, and `create`, which builds one by name. docs/extend/system.md says how to add one."""

from dataclasses import dataclass, fields, replace

import jax
import numpy as np

from cfaan_jax.errors import InputError, shortened
from cfaan_jax.models.ap3d import AP3DNonLocalSettings, AP3DSettings, P3DSettings
from cfaan_jax.models.axial import AxialSettings
from cfaan_jax.models.backbone_hooks import BackboneHooks
from cfaan_jax.models.ftwft import FTWFTSettings
from cfaan_jax.models.heads import Head, HeadSettings
from cfaan_jax.models.layers.pooling import adaptive_max_pool
from cfaan_jax.models.layers.precision import COMPUTE
from cfaan_jax.models.non_local import NonLocalSettings
from cfaan_jax.models.resnet import STRIDE, ResNet, ResNetSettings
from cfaan_jax.models.tclnet import TCLNetSettings
from cfaan_jax.models.video_reid import VideoReID

HEADS = ("own", "cfaan")


def whole_average(maps: jax.Array, _: jax.Array | None) -> jax.Array:
    """The mean of each frame's whole map, `[B, T, H, W, C]` -> `[B, T, C]`, as `HeadSettings.pool`."""
    return maps.mean((2, 3))


def whole_maximum(maps: jax.Array, _: jax.Array | None) -> jax.Array:
    """The maximum of each frame's whole map, `[B, T, H, W, C]` -> `[B, T, C]`, as `HeadSettings.pool`."""
    return adaptive_max_pool(adaptive_max_pool(maps, 3, 1), 2, 1)[:, :, 0, 0]


@dataclass(frozen=True)
class TorchLayout:
    """How the official code of a network names what all networks have."""

    prefix: str = "base."  # of everything in the backbone
    conv1: str = "conv1"
    bn1: str = "bn1"
    stages: tuple[str, str, str, str] = ("layer1", "layer2", "layer3", "layer4")
    in_line: bool = False  # the module after a bottleneck is numbered like a bottleneck; else it is NL_<stage>.<rank>
    volumes: bool = False  # convolutions of stem and stages are 3-D ones of length 1 in time
    neck: str = "bottleneck"  # of the head, as the next; {branch} is the number of the branch
    classifier: str = "classifier"


@dataclass(frozen=True)
class System:
    """What distinguishes a network from the others.

    Attributes:
        hooks: the settings of what it adds to the plain ResNet-50; its fields are the network's options.
        head, layout, stem_relu: those of its released code; the last one is described in `ResNetSettings`.
    """

    hooks: type[BackboneHooks] = BackboneHooks
    head: HeadSettings = HeadSettings()
    layout: TorchLayout = TorchLayout()
    stem_relu: bool = True

    @property
    def weighs_frames(self) -> bool:
        """Whether its frames count differently, see `BackboneHooks.frame_weights`."""
        return self.hooks.frame_weights is not BackboneHooks.frame_weights


_IN_LINE = TorchLayout(in_line=True, volumes=True)
_MAXIMUM = HeadSettings(pool=whole_maximum, neck_bias="trained", classifier_bias=True, triplet_after_neck=True)
_AP3D_LAYOUT = replace(_IN_LINE, prefix="", neck="bn")

SYSTEMS = {
    "c2d": System(head=HeadSettings(per_frame=True), stem_relu=False),
    "nonlocal": System(NonLocalSettings, stem_relu=False),
    "cfaan": System(AxialSettings, layout=_IN_LINE),
    "ide": System(head=HeadSettings(test_feature_after_neck=False)),  # Zheng et al. 2016: single frames, pool5 feature
    "p3d": System(P3DSettings, _MAXIMUM, _AP3D_LAYOUT),
    "ap3d": System(AP3DSettings, _MAXIMUM, _AP3D_LAYOUT),
    "ap3d_nl": System(AP3DNonLocalSettings, _MAXIMUM, _AP3D_LAYOUT),
    "tclnet": System(
        TCLNetSettings, head=replace(_MAXIMUM, branches=2),
        layout=replace(_IN_LINE, prefix="", neck="bn.{branch}", classifier="classifier.{branch}")),
    "ftwft": System(
        FTWFTSettings, head=HeadSettings(pool=whole_average, neck_bias="frozen", triplet_after_neck=True),
        layout=TorchLayout(conv1="0", bn1="1", stages=("4", "5", "6", "7"), neck="classifier.bn",
                           classifier="classifier.classifier")),
}


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
        compute: "float32", or "bfloat16" for the activations of everything before the pooling, see `layers.precision`.
        remat: compute the activations inside bottlenecks and blocks again for the gradients, see `ResNetSettings`.
        head: "own": that of the network's publication; "cfaan": that of CF-AAN (section 3.3) instead.
        seed: of the initial weights.
        **options: the fields of the settings that `SYSTEMS` names, such as those of `AxialSettings` for cfaan.

    Raises:
        InputError: unknown name or option, or a size that does not fit.
    """
    system = _system(name, options)
    for field, value, shape in (("num_classes", num_classes, ()), ("clip_length", clip_length, ()),
                                ("image_size", image_size, (2,)), ("width", width, ()), ("depths", depths, (4,)),
                                ("bn_groups", bn_groups, ())):
        if np.shape(value) != shape or np.asarray(value).dtype.kind not in "iu" or np.min(value) < 1:
            raise InputError(f"{field}={value!r}: give {shape[0] if shape else 'a'} whole "
                             f"number{'s' if shape else ''} of at least 1")
    if any(length % STRIDE for length in image_size):
        raise InputError(f"image_size={tuple(image_size)}: height and width must be multiples of {STRIDE}")
    if head not in HEADS:
        raise InputError(f"head={head!r}: choose one of {', '.join(HEADS)}")
    if compute not in COMPUTE:
        raise InputError(f"compute={compute!r}: choose one of {', '.join(COMPUTE)}")
    hooks, rng = system.hooks(**options), np.random.default_rng(seed)
    settings = ResNetSettings(width, tuple(depths), system.stem_relu, bn_groups, compute, remat)
    clip_size = (clip_length, *image_size)
    backbone = ResNet(settings, clip_size, hooks, rng)
    last = settings.sites(clip_size)[-1][-1]
    frame_weights = hooks.frame_weights(last, rng)
    head_settings, layout = system.head, system.layout
    if head == "cfaan":
        head_settings, plain = HeadSettings(), TorchLayout()
        layout = replace(layout, prefix=plain.prefix, neck=plain.neck, classifier=plain.classifier)
    heads = [Head(last.channels, num_classes, head_settings, bn_groups, rng) for _ in range(head_settings.branches)]
    return VideoReID(name, backbone, frame_weights, heads, head_settings, hooks, layout)


def _system(name: str, options: dict) -> System:
    if name not in SYSTEMS:
        raise InputError(f"model name {name!r}: choose one of {shortened(SYSTEMS)}")
    known = {option.name for option in fields(SYSTEMS[name].hooks)}
    if unknown := sorted(set(options) - known):
        raise InputError(f"model {name!r} has no option {shortened(unknown)}; it has: "
                         f"{shortened(sorted(known)) or 'none'}")
    return SYSTEMS[name]
