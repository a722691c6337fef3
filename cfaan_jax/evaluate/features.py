"""Features of tracklets: a compiled network, features of clips, their mean over a tracklet (paper, section 4.1)."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding

from cfaan_jax.data.augment import prepare
from cfaan_jax.data.loader import ClipBatches
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklets import ImageTracklets
from cfaan_jax.errors import InputError
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import device_memory, sharding
from cfaan_jax.runtime.progress import Progress


class ClipNetwork(Protocol):
    """What gives features in the place of a `VideoReID`, such as an exported network."""

    any_length: bool  # whether it takes clips of any length

    def __call__(self, frames: jax.Array, rectangles: jax.Array) -> jax.Array | np.ndarray:
        """Clip features float32 [B, D] of frames uint8 [B, T, H, W, 3] in RGB.

        Rectangles of real pixels are int32 [B, T, 4], (y0, y1, x0, x1), end exclusive.
        """

    def tracklet_features(self, means: np.ndarray) -> jax.Array | np.ndarray:
        """Tracklet features [N, D'] from means over clip features [N, D]."""


@lru_cache(maxsize=4)
def compiled_features(graphdef: nnx.GraphDef, structure: jax.tree_util.PyTreeDef, where: NamedSharding | None):
    """Features of one batch: (arrays of the network, frames, rectangles) -> [B, D]; the same for any weights.

    The arrays come as a plain list, because a network's own containers cost 20 ms for each batch.
    """

    @partial(jax.jit, out_shardings=where)
    def features(arrays: list[jax.Array], frames: jax.Array, rectangles: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, jax.tree.unflatten(structure, arrays))
        model.eval()
        clips, cells = prepare(frames, rectangles, model.stride)
        return model.clip_features(clips, cells)

    return features


def features_of(model: VideoReID | ClipNetwork,
                where: NamedSharding | None = None) -> Callable[[jax.Array, jax.Array], jax.Array | np.ndarray]:
    """The compiled network: (frames uint8 [B, T, H, W, 3], rectangles int32 [B, T, 4]) -> clip features [B, D].

    `where` is the sharding of its weights and of the features; None: that of the weights. The model is not changed.
    """
    if not isinstance(model, nnx.Module):
        return model
    graphdef, state = nnx.split(model)
    arrays, structure = jax.tree.flatten(state if where is None else sharding.put_on_mesh(state, where))
    return partial(compiled_features(graphdef, structure, where), arrays)


class SideBySide:
    """Several networks that see the same clips: their features, of one size, side by side."""

    def __init__(self, networks: Sequence[VideoReID | ClipNetwork]):
        where = sharding.replicated(sharding.data_mesh())
        self._networks, self._features = networks, [features_of(network, where) for network in networks]
        self.any_length = all(network.any_length for network in networks)

    def __call__(self, frames: jax.Array, rectangles: jax.Array) -> jax.Array:
        return jnp.concatenate([features(frames, rectangles) for features in self._features], axis=1)

    def tracklet_features(self, means: np.ndarray) -> np.ndarray:
        parts = zip(self._networks, np.split(means, len(self._networks), axis=1), strict=True)
        return np.concatenate([network.tracklet_features(part) for network, part in parts], axis=1)


class ClipFeatures(NamedTuple):
    """Features of a batch of clips, before `tracklet_features`."""

    tracklets: np.ndarray  # int64 [B], position of every clip's tracklet in the record set; -1 marks padding
    features: np.ndarray  # float32 [B, D]
    frames: int  # of every clip


def iter_clip_features(model: VideoReID | ClipNetwork, records: RecordSet | ImageTracklets, *, clips: str,
                       clip_length: int, image_size: tuple[int, int], batch_size: int,
                       workers: int = 2) -> Iterator[ClipFeatures]:
    """Features of the clips of tracklets, batch by batch; the model is not changed.

    Clips of many tracklets share a batch, which is divided over all devices; all batches of clips of one length have
    one shape. Every process gets all features.

    Args:
        model, records: the network, the tracklets.
        clips: which clips represent a tracklet (`data.clips.MODES`).
        clip_length, image_size: T and (H, W) of the network's input.
        batch_size: clips in a batch, a multiple of the number of devices.
        workers: reading threads.
    Raises:
        InputError: a batch that the devices do not divide, clips shorter than the network takes.
    """
    check_clips(model, clips)
    mesh = sharding.data_mesh()
    batch_sharding = sharding.batch_sharding(mesh, batch_size)
    network = features_of(model, sharding.replicated(mesh))
    batches = ClipBatches(records, clips, clip_length, image_size, batch_size, workers,
                          sharding.local_rows(batch_sharding, batch_size))
    with (Progress(f"features of {len(records)} tracklets", len(batches)) as progress,
          device_memory.explained(f"a batch of {batch_size} clips",
                                  "set a smaller one: config.eval.batch, or batch_size of the library")):
        running = None
        for batch in batches:
            inputs = sharding.put_on_mesh((batch["frames"], batch["rectangles"]), batch_sharding)
            features = network(*inputs)
            if running is not None:  # fetch a batch's features only when the device has the next batch to work on
                yield running._replace(features=np.asarray(running.features))
                progress.advance()
            running = ClipFeatures(batch["tracklet"], features, batch["frames"].shape[1])
        yield running._replace(features=np.asarray(running.features))
        progress.advance()


def extract(model: VideoReID | ClipNetwork, records: RecordSet | ImageTracklets, **settings) -> np.ndarray:
    """Evaluation features of tracklets, float32 [N, D]: the mean over their clips (paper, section 4.1), not normalised.

    A clip weighs as many times as it has frames; the last one of a tracklet may be shorter. Settings and InputErrors
    are those of `iter_clip_features`; a feature that is not finite is one, too.
    """
    sums, frames = None, np.zeros(len(records), np.int64)
    for tracklets, features, length in iter_clip_features(model, records, **settings):
        real = tracklets >= 0
        if sums is None:
            sums = np.zeros((len(records), features.shape[1]))
        np.add.at(sums, tracklets[real], length * features[real].astype(np.float64))
        np.add.at(frames, tracklets[real], length)
    means = (sums / frames[:, None]).astype(np.float32)
    tracklet_features = np.asarray(model.tracklet_features(means))
    check_finite(tracklet_features, records.names)
    return tracklet_features


def check_finite(features: np.ndarray, names: Sequence[str]) -> None:
    """Raises InputError for features [N, D] that are not finite; `names` are those of their tracklets."""
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise InputError(f"the feature of tracklet {names[int(broken.argmax())]} is not finite: training diverged, "
                         "or the weights are of another network")


def check_clips(model: VideoReID | ClipNetwork, clips: str) -> None:
    """Raises InputError for a way of taking clips that gives shorter clips than the network takes."""
    if clips == "dense_cut" and not model.any_length:
        raise InputError("clips=dense_cut gives shorter clips, too, which this network does not take; choose dense or "
                         "all_continuous")
