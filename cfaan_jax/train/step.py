"""One training step (sections 3.3 and 4.2): augmentation, losses, gradients, Adam, running statistics."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cfaan_jax.data import augment
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime.sharding import replicated, to_microbatches
from cfaan_jax.train.objective import initial_centres, moved_centres, objective


class TrainState(NamedTuple):
    """The arrays of a training run."""

    params: nnx.State  # what the optimiser changes
    stats: nnx.State  # the running statistics of batch normalisation
    optimizer: optax.OptState
    step: jax.Array  # int32, finished steps
    seed: jax.Array  # int32; an argument of the compiled step, so that another seed does not compile again
    centres: jax.Array | None  # of the classes, see `objective.initial_centres`


def initial_state(config: ConfigDict, model: VideoReID, classes: int, optimizer: optax.GradientTransformation,
                  params: nnx.State, stats: nnx.State) -> TrainState:
    """The state before the first step; `params` and `stats` are the parts of the model."""
    return TrainState(params, stats, optimizer.init(params), jnp.int32(0), jnp.int32(config.seed),
                      initial_centres(config.loss, model, classes, config.seed))


def make_step(graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, config: ConfigDict, stride: int,
              mesh: Mesh):
    """The jitted training step: (state, batch) -> (state, metrics); it donates the state.

    Its random key is that of the state's seed, folded with the step. A batch is a dict of frames uint8
    `[B, T, H, W, 3]`, rectangles int32 `[B, T, 4]` in pixels and labels int32 `[B]`. `graphdef` is in training mode;
    `stride` is pixels to a cell of the last feature map; `augment`, `loss` and `train.accumulate` are read.
    """

    def loss_fn(learnt, stats, clips, cells, labels, erased):
        params, centres = learnt
        model = nnx.merge(graphdef, params, stats, copy=True)
        output = model(clips, cells)
        loss, parts = objective(config.loss, output, labels, erased, centres)
        accuracy = jnp.mean(jnp.argmax(jnp.stack(output.logits), axis=-1) == labels)
        _, _, stats = nnx.split(model, nnx.Param, ...)
        return loss, (stats, {"loss": loss, **parts, "accuracy": accuracy})

    gradient = accumulate_gradients(jax.grad(loss_fn, has_aux=True), config.train.accumulate, mesh)

    def step(state: TrainState, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        clips, cells, erased = augment.prepare_training(key, batch["frames"], batch["rectangles"], config.augment,
                                                        stride)
        (gradients, centre_gradients), (stats, metrics) = gradient(
            (state.params, state.centres), state.stats, clips, cells, batch["labels"], erased)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        centres = moved_centres(config.loss, state.centres, centre_gradients)
        return TrainState(params, stats, optimizer_state, state.step + 1, state.seed, centres), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=replicated(mesh))


def accumulate_gradients(gradient: Callable, parts: int, mesh: Mesh) -> Callable:
    """`gradient`, taken over equal parts of the batch in turn, so that only one part's activations are in memory.

    It is (learnt, stats, *batch) -> (gradients, (stats, metrics)), where all arrays in `batch` are `[B, ...]`.
    Gradients and metrics are averaged; the statistics pass from each part to the next. The devices divide B / parts.
    """
    if parts == 1:
        return gradient

    def accumulated(learnt, stats, *batch):
        def add(carry, part):
            total, stats = carry
            gradients, (stats, metrics) = gradient(learnt, stats, *part)
            return (jax.tree.map(jnp.add, total, gradients), stats), metrics

        start = jax.tree.map(jnp.zeros_like, learnt), stats
        (total, stats), metrics = jax.lax.scan(add, start, to_microbatches(batch, parts, mesh))
        gradients = jax.tree.map(lambda leaf: leaf / parts, total)
        return gradients, (stats, jax.tree.map(lambda leaf: leaf.mean(0), metrics))

    return accumulated


@jax.jit
def all_finite(tree) -> jax.Array:
    """Whether all numbers in a pytree of arrays are finite, bool []."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
