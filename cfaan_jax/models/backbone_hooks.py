"""What a system may add to the plain ResNet-50, and where."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flax import nnx


@dataclass(frozen=True)
class Place:
    """One bottleneck of the backbone.

    Attributes:
        stage, block: which one, both counted from 0.
        following: bottlenecks of its stage behind it.
        inputs, planes, channels: channels of its input, inside it, and of its output.
        size: frames, rows and columns of its output.
        groups: see `BatchNorm`.
    """

    stage: int
    block: int
    following: int
    inputs: int
    planes: int
    channels: int
    size: tuple[int, int, int]
    groups: int

    @property
    def attended(self) -> bool:
        """Whether the paper puts attention behind it: after conv3_3, 3_4, 4_4, 4_5 and 4_6 (section 4.2)."""
        return self.following < {1: 2, 2: 3}.get(self.stage, 0)


class Additions:
    """Nothing: the plain ResNet-50. The settings of a system derive from this and override what it adds.

    Attributes:
        any_length, any_size: whether the network takes clips of any length and frames of any size, or of those it was
            made for alone.
        torch_prefixes: (pattern, name, plain name) of our containers, of torch's, and of those in a plain ResNet-50, as
            in `weights.transfer`, for those that it does not know.
        torch_names: (pattern, name, axes) of our variables, how torch calls them inside their container, and how many
            axes of length 1 torch has behind the others.
    """

    any_length: ClassVar[bool] = True
    any_size: ClassVar[bool] = True
    torch_prefixes: ClassVar[tuple[tuple[str, str, str | None], ...]] = ()
    torch_names: ClassVar[tuple[tuple[str, str, int], ...]] = ()

    def within(self, place: Place, rng: np.random.Generator) -> nnx.Module | None:
        """A module on whole clips whose output is added to that of the bottleneck's 3x3 convolution, or None."""

    def behind(self, place: Place, rng: np.random.Generator) -> nnx.Module | None:
        """A module on whole clips that follows the bottleneck, or None."""

    def last_stage(self, place: Place, rng: np.random.Generator) -> nnx.Module | None:
        """A module on whole clips in the place of the last stage, whose first bottleneck is given, or None."""

    def frame_weights(self, place: Place, rng: np.random.Generator) -> nnx.Module | None:
        """A module that gives logits `[B, T]` by which frames are weighed, from the last maps, or None.

        The place given is that of the last bottleneck. None: all frames count alike.
        """


@dataclass(frozen=True)
class Nothing(Additions):
    """The plain ResNet-50, without options."""
