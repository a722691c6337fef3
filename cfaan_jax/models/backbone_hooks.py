"""Where a system adds modules to the plain ResNet-50."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flax import nnx

# After which layers the paper inserts attention (section 4.2), in the names of ResNet-50.
CF_AA_SITES = ("conv3_3", "conv3_4", "conv4_4", "conv4_5", "conv4_6")
RESNET50_DEPTHS = (3, 4, 6, 3)


@dataclass(frozen=True)
class BlockSite:
    """One bottleneck of the backbone."""

    stage: int  # counted from 0, as is the block: the paper's conv3_1 is stage 1, block 0
    block: int
    depth: int  # bottlenecks of its stage
    inputs: int  # channels of its input, inside it, and of its output
    planes: int
    channels: int
    size: tuple[int, int, int]  # frames, rows and columns of its output
    groups: int  # see `BatchNorm`

    @property
    def is_last(self) -> bool:
        """Whether it is the last bottleneck of its stage."""
        return self.block == self.depth - 1

    @property
    def has_cf_aa(self) -> bool:
        """Whether it is one of `CF_AA_SITES`; stages of another depth are compared with ResNet-50's from their end."""
        block = self.block + RESNET50_DEPTHS[self.stage] - self.depth
        return f"conv{self.stage + 2}_{block + 1}" in CF_AA_SITES


@dataclass(frozen=True)
class BackboneHooks:
    """What a system adds to the plain ResNet-50: here nothing. The settings of a system derive from it and override.

    Attributes:
        any_length, any_size: whether the network takes clips of any length and frames of any size.
        torch_prefixes: (pattern, name, plain name) of our containers, of torch's, and of those in a plain ResNet-50, as
            in `weights.transfer`, for those that it does not know.
        torch_names: (pattern, name, axes) of our variables, their torch names inside the container, and how many
            trailing axes of length 1 torch has.
    """

    any_length: ClassVar[bool] = True
    any_size: ClassVar[bool] = True
    torch_prefixes: ClassVar[tuple[tuple[str, str, str | None], ...]] = ()
    torch_names: ClassVar[tuple[tuple[str, str, int], ...]] = ()

    def inside_block(self, site: BlockSite, rng: np.random.Generator) -> nnx.Module | None:
        """A module on whole clips whose output is added to that of the bottleneck's 3x3 convolution, or None."""

    def after_block(self, site: BlockSite, rng: np.random.Generator) -> nnx.Module | None:
        """A module on whole clips after the bottleneck, or None."""

    def last_stage(self, site: BlockSite, rng: np.random.Generator) -> nnx.Module | None:
        """A module on whole clips that replaces the last stage, whose first bottleneck is given, or None."""

    def frame_weights(self, site: BlockSite, rng: np.random.Generator) -> nnx.Module | None:
        """A module that gives logits `[B, T]` of the frames' weights from the last maps, or None: all are equal.

        The site is that of the last bottleneck.
        """
