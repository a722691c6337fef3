"""A network for video re-identification: backbone, pooling and heads put together (section 3.3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cfaan_jax.models.heads import Head, HeadSettings, tracklet_feature
from cfaan_jax.models.layers.precision import upcast
from cfaan_jax.models.resnet import STRIDE, ResNet


class Output(NamedTuple):
    """The inputs of the losses for a batch."""

    logits: list[jax.Array]  # for each branch of the head, `[B, classes]`
    features: list[jax.Array]  # for each branch the features that losses compare, `[B, D]`
    frame_logits: jax.Array | None  # of the frames' weights, `[B, T]`; None where all frames count alike


class VideoReID(nnx.Module):
    """A network that turns clips into features and identity logits; `models.create` builds one in evaluation mode.

    Args:
        name: its name in `registry.SYSTEMS`.
        backbone, hooks: gives the maps, and what it adds to a plain ResNet-50.
        frame_weights: see `BackboneHooks`.
        heads, head_settings: one for each branch, and the settings of all.
        layout: the torch names of its weights, see `registry.TorchLayout`.

    Attributes:
        stride: pixels to a cell of its last feature map.
        feature_size: length of a feature.
        any_length: whether it takes clips of any length.
    """

    def __init__(self, name: str, backbone: ResNet, frame_weights: nnx.Module | None, heads: list[Head],
                 head_settings: HeadSettings, hooks, layout):
        self.name, self.stride = name, STRIDE
        self.backbone, self.frame_weights = backbone, frame_weights
        self.head, self.further_heads = heads[0], nnx.List(heads[1:])
        self.head_settings, self.hooks, self.layout = head_settings, hooks, layout
        self.any_length = hooks.any_length
        self.feature_size = sum(head.classifier.shape[0] for head in heads)
        self.eval()

    def __call__(self, clips: jax.Array, rectangles: jax.Array | None = None) -> Output:
        """Logits and features for the losses.

        Args:
            clips: normalised float `[B, T, H, W, 3]`.
            rectangles: int `[B, T, 4]`, (y0, y1, x0, x1) of the real pixels in cells of the last feature map, end
                exclusive; None for whole frames.
        """
        frames, frame_logits = self._pool(clips, rectangles)
        logits, features = [], []
        for branch, head in zip(frames, (self.head, *self.further_heads), strict=True):
            class_logits, after_neck = head(branch)
            logits.append(class_logits)
            features.append(after_neck if self.head_settings.triplet_after_neck else branch.mean(1))
        return Output(logits, features, frame_logits)

    def features(self, clips: jax.Array, rectangles: jax.Array | None = None) -> jax.Array:
        """The evaluation feature of each clip, `[B, D]`; arguments as for a call.

        It is not normalised to unit length, except that each of several branches is.

        Raises:
            ValueError: the model is in training mode.
        """
        return self.tracklet_features(self.clip_features(clips, rectangles))

    def clip_features(self, clips: jax.Array, rectangles: jax.Array | None = None) -> jax.Array:
        """The features that are averaged over the clips of a tracklet, `[B, D]`; as `features` otherwise."""
        if not self.head.neck.use_running_average:
            raise ValueError("features are taken in evaluation mode: call model.eval() first")
        frames, _ = self._pool(clips, rectangles)
        after_neck = self.head_settings.test_feature_after_neck
        return jnp.concatenate([head(branch)[1] if after_neck else branch.mean(1) for branch, head in
                                zip(frames, (self.head, *self.further_heads), strict=True)], axis=-1)

    def tracklet_features(self, means: jax.Array) -> jax.Array:
        """The features of tracklets from the means of `clip_features` over their clips, `[N, D]` each."""
        return tracklet_feature(means, self.head_settings.branches)

    def _pool(self, clips: jax.Array, rectangles: jax.Array | None) -> tuple[list[jax.Array], jax.Array | None]:
        """Pooled frames of each branch, `[B, T / branches, C]`, and the logits of the frames' weights, `[B, T]`."""
        maps = self.backbone(clips)
        frames, logits = self.head_settings.pool(upcast(maps), rectangles), None
        if self.frame_weights is not None:
            logits = upcast(self.frame_weights(maps))
            # The heads average over frames; the mean of frames times T times their weights is the weighted sum.
            frames = frames * (frames.shape[1] * jax.nn.softmax(logits, axis=1))[..., None]
        branches = self.head_settings.branches
        return [frames[:, branch::branches] for branch in range(branches)], logits
