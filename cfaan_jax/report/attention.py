"""Attention inside a CF-AA block (paper, section 3.2), packed for a page."""

import base64
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from cfaan_jax.data.augment import prepare
from cfaan_jax.data.reading import read_clip
from cfaan_jax.data.records import RecordSet
from cfaan_jax.models import SYSTEMS, VideoReID
from cfaan_jax.models.attention_maps import clip_maps
from cfaan_jax.models.axial import AxialSettings


def exists(config: ConfigDict) -> bool:
    """Whether the network of a config has CF-AA blocks."""
    return SYSTEMS[config.model.name].hooks is AxialSettings


def clip_attention(model: VideoReID, block: int, located: Sequence[tuple[RecordSet, int]],
                   indices: Sequence[np.ndarray], image_size: tuple[int, int]) -> list[list[dict[str, np.ndarray]]]:
    """Attention inside a block (`axial_block`) for one clip of each of N tracklets; the model is not changed.

    `located` are record set and position of every tracklet, and `indices` the frames of its clip, int `[T]`. Returns
    for every clip and scale float32 `[T, rows, columns, length]` by axis, see `attention_maps.block_maps`.
    """
    clips = np.stack([read_clip(records, position, frames, image_size)[0]
                      for (records, position), frames in zip(located, indices, strict=True)])
    whole = np.broadcast_to(np.array([0, image_size[0], 0, image_size[1]], np.int32), (*clips.shape[:2], 4))
    graphdef, state = nnx.split(model)

    @jax.jit
    def attention(state: nnx.State, frames: jax.Array) -> list[dict[str, jax.Array]]:
        network = nnx.merge(graphdef, state)
        network.eval()
        return clip_maps(network, prepare(frames, whole, network.stride)[0], block)

    maps = jax.tree.map(np.asarray, attention(state, clips))
    return [jax.tree.map(lambda array, clip=clip: array[clip], maps) for clip in range(len(clips))]


def pack(scales: Sequence[Mapping[str, np.ndarray]]) -> list[dict]:
    """The attention of one clip for a script: by scale the size of the map and, by axis, bytes in base64.

    A byte is the share of the largest attention of its position; a script divides a line by its sum. The error is half
    a per cent of the line's largest value. Bytes are in the order `[T, rows, columns, length]`.
    """
    return [{"rows": scale["h"].shape[-1], "columns": scale["w"].shape[-1],
             **{axis: base64.b64encode(_to_bytes(values)).decode() for axis, values in scale.items()}}
            for scale in scales]


def _to_bytes(attention: np.ndarray) -> bytes:
    return np.rint(255 * attention / attention.max(axis=-1, keepdims=True)).astype(np.uint8).tobytes()
