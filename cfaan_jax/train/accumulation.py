"""Gradients of a batch taken part by part, so that the activations of one part alone are held at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cfaan_jax.runtime.sharding import to_microbatches


def over_parts(gradient: Callable, parts: int, mesh: Mesh) -> Callable:
    """`gradient`, taken over equal parts of the batch one after another.

    Gradients and metrics are the means of those of the parts; the statistics go from each part to the next.

    Args:
        gradient: (learnt, stats, *batch) -> (gradients, (stats, metrics)), where all arrays in `batch` are `[B, ...]`.
        parts: how many, a divisor of B; 1 gives `gradient` itself.
        mesh: the devices, whose number divides a part.
    """
    if parts == 1:
        return gradient

    def accumulated(learnt, stats, *batch):
        def add(carried, part):
            total, stats = carried
            gradients, (stats, metrics) = gradient(learnt, stats, *part)
            return (jax.tree.map(jnp.add, total, gradients), stats), metrics

        start = jax.tree.map(jnp.zeros_like, learnt), stats
        (total, stats), metrics = jax.lax.scan(add, start, to_microbatches(batch, parts, mesh))
        mean = jax.tree.map(lambda each: each / parts, total)
        return mean, (stats, jax.tree.map(lambda each: each.mean(0), metrics))

    return accumulated
