"""Where a CF-AA block looks: its softmax over positions, for pages and for programs."""

import jax

from cfaan_jax.errors import InputError
from cfaan_jax.models.axial import AxialAttention, CoarseToFineBlock
from cfaan_jax.models.video_reid import VideoReID


def axial_block(model: VideoReID, number: int) -> tuple[str, CoarseToFineBlock]:
    """The layer before a CF-AA block, such as "conv4_6", and the block; InputError if the network has no such block.

    `number` counts from 0 in the order in which a clip passes through the blocks, or from -1 for the last one.
    """
    blocks = [(f"conv{stage + 2}_{place + 1}", block) for stage, blocks in enumerate(model.backbone.attention)
              for place, block in enumerate(blocks) if isinstance(block, CoarseToFineBlock)]
    if not -len(blocks) <= number < len(blocks):
        raise InputError(f"CF-AA block {number}: this network has {len(blocks)} of them, counted from 0")
    return blocks[number]


def clip_maps(model: VideoReID, clips: jax.Array, number: int = -1) -> list[dict[str, jax.Array]]:
    """`block_maps` of a network's `axial_block` for clips, normalised float `[B, T, H, W, 3]`."""
    _, block = axial_block(model, number)
    return block_maps(block, model.backbone(clips, until=block))


def block_maps(block: CoarseToFineBlock, x: jax.Array) -> list[dict[str, jax.Array]]:
    """Attention inside a block with the input `[B, T, H, W, channels]`, averaged over the heads of each scale.

    Returns:
        For each scale and axis `[B, T, rows, columns, length]`, the attention of every position of that scale's map to
        the positions of its line along the axis.
    """
    maps: list[dict[str, jax.Array]] = []
    for layers, share in zip(block.scales, block.split_scales(x), strict=True):
        maps.append({})
        for axis in block.settings.order:
            layer = layers["hwt".index(axis)]
            maps[-1][axis] = layer_maps(layer, share).mean(axis=-2)
            share = layer(share)
    return maps


def layer_maps(layer: AxialAttention, x: jax.Array) -> jax.Array:
    """The softmax of eq. 4 inside a layer: of each position o to those of its line, `[B, T, H, W, heads, length]`."""
    query, key, _ = layer.project(x)
    grid = layer.to_grid(layer.attend(query, key), x.shape)
    return grid.reshape(*x.shape[:4], layer.heads, layer.length)
