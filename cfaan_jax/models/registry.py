"""The registry of networks: what tells one from another, as data. `docs/extend/system.md` says how to add one."""

from dataclasses import dataclass, replace

from cfaan_jax.models.ap3d import AP3DNonLocalSettings, AP3DSettings, P3DSettings
from cfaan_jax.models.axial import AxialSettings
from cfaan_jax.models.backbone_hooks import Additions, Nothing
from cfaan_jax.models.ftwft import FTWFTSettings
from cfaan_jax.models.heads import HeadSettings, whole_average, whole_maximum
from cfaan_jax.models.non_local import NonLocalSettings
from cfaan_jax.models.tclnet import TCLNetSettings


@dataclass(frozen=True)
class TorchLayout:
    """How the official code of a network names what all networks have.

    Attributes:
        prefix: of everything in the backbone.
        conv1, bn1, stages: stem and stages in it.
        in_line: whether what follows a bottleneck is numbered in line with the bottlenecks; else as NL_<stage>.<rank>.
        volumes: whether convolutions of stem and stages are 3-D ones of length 1 in time.
        neck, classifier: of the head; {branch} is the number of the branch.
    """

    prefix: str = "base."
    conv1: str = "conv1"
    bn1: str = "bn1"
    stages: tuple[str, str, str, str] = ("layer1", "layer2", "layer3", "layer4")
    in_line: bool = False
    volumes: bool = False
    neck: str = "bottleneck"
    classifier: str = "classifier"


@dataclass(frozen=True)
class System:
    """What tells one network from another.

    Attributes:
        additions: the settings of what it adds to the plain ResNet-50; its fields are the network's options.
        head: its own head.
        layout: names of its own code.
        stem_relu: see `ResNetSettings`; the released value of each network.
    """

    additions: type[Additions] = Nothing
    head: HeadSettings = HeadSettings()
    layout: TorchLayout = TorchLayout()
    stem_relu: bool = True

    @property
    def weighs_frames(self) -> bool:
        """Whether its frames count differently, see `Additions.frame_weights`."""
        return self.additions.frame_weights is not Additions.frame_weights


_IN_LINE = TorchLayout(in_line=True, volumes=True)
_MAXIMUM = HeadSettings(pool=whole_maximum, neck_offset="trained", classifier_offset=True, compared_behind_neck=True)
_AP3D = dict(head=_MAXIMUM, layout=replace(_IN_LINE, prefix="", neck="bn"))

SYSTEMS = {
    "c2d": System(head=HeadSettings(per_frame=True), stem_relu=False),
    "nonlocal": System(NonLocalSettings, stem_relu=False),
    "cfaan": System(AxialSettings, layout=_IN_LINE),
    "ide": System(head=HeadSettings(feature_behind_neck=False)),  # Zheng et al. 2016: single frames, pool5 feature
    "p3d": System(P3DSettings, **_AP3D),
    "ap3d": System(AP3DSettings, **_AP3D),
    "ap3d_nl": System(AP3DNonLocalSettings, **_AP3D),
    "tclnet": System(
        TCLNetSettings, head=replace(_MAXIMUM, branches=2),
        layout=replace(_IN_LINE, prefix="", neck="bn.{branch}", classifier="classifier.{branch}")),
    "ftwft": System(
        FTWFTSettings, head=HeadSettings(pool=whole_average, neck_offset="frozen", compared_behind_neck=True),
        layout=TorchLayout(conv1="0", bn1="1", stages=("4", "5", "6", "7"), neck="classifier.bn",
                           classifier="classifier.classifier")),
}
