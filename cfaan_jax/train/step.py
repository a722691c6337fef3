"""One training step (sections 3.3 and 4.2): augmentation, losses, gradients, Adam, running statistics."""

from collections.abc import Callable
from functools import partial
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
    """The arrays of a training run. They are few, since handing thousands to a program takes the host longer."""

    params: list[jax.Array]  # what the optimiser changes, by the `Layout` of a `Network`
    stats: list[jax.Array]  # the running statistics of batch normalisation, likewise
    optimizer: optax.OptState
    step: jax.Array  # int32, finished steps
    seed: jax.Array  # int32; an argument of the compiled step, so that another seed does not compile again
    centres: jax.Array | None  # of the classes, see `objective.initial_centres`


class Layout(NamedTuple):
    """How a pytree of arrays lies in few: all of one axis in the first, one after another, then the others.

    Kernels of convolutions lie with the outputs first, as cuDNN takes them and gives their gradients.
    """

    structure: jax.tree_util.PyTreeDef
    lengths: tuple[int, ...]  # of the pytree's arrays of one axis, 0 for the others

    @classmethod
    def of(cls, tree) -> "Layout":
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple(leaf.size if leaf.ndim == 1 else 0 for leaf in leaves))

    @staticmethod
    def pack(tree) -> list[jax.Array]:
        """The few arrays of a pytree."""
        leaves = jax.tree.leaves(tree)
        vectors = [leaf for leaf in leaves if leaf.ndim == 1]
        return [jnp.concatenate(vectors),
                *(jnp.moveaxis(leaf, -1, 0) if leaf.ndim > 2 else leaf for leaf in leaves if leaf.ndim != 1)]

    def unpack(self, packed: list[jax.Array]):
        """The pytree that `pack` took."""
        vectors, *others = packed
        parts = iter(jax.lax.split(vectors, [length for length in self.lengths if length]))
        rest = (jnp.moveaxis(leaf, 0, -1) if leaf.ndim > 2 else leaf for leaf in others)
        return jax.tree.unflatten(self.structure, [next(parts) if length else next(rest) for length in self.lengths])


class Network(NamedTuple):
    """A network whose arrays lie in a `TrainState`."""

    graphdef: nnx.GraphDef  # of the model, in the mode that it had
    params: Layout
    stats: Layout
    stride: int  # pixels to a cell of the last feature map

    @classmethod
    def of(cls, model: VideoReID) -> "Network":
        """The network of a model, whose arrays may be abstract."""
        graphdef, *parts = nnx.split(model, nnx.Param, ...)
        return cls(graphdef, *map(Layout.of, parts), stride=model.stride)

    def model(self, params: list[jax.Array], stats: list[jax.Array]) -> VideoReID:
        """The model with these arrays."""
        return nnx.merge(self.graphdef, self.params.unpack(params), self.stats.unpack(stats), copy=True)


def initial_state(config: ConfigDict, classes: int, optimizer: optax.GradientTransformation,
                  model: VideoReID) -> TrainState:
    """The state before the first step, with the arrays of the model."""
    params, stats = map(Layout.pack, nnx.split(model, nnx.Param, ...)[1:])
    return TrainState(params, stats, optimizer.init(params), jnp.int32(0), jnp.int32(config.seed),
                      initial_centres(config.loss, model, classes, config.seed))


@partial(jax.jit, static_argnums=0)
def named_arrays(network: Network, state: TrainState) -> dict:
    """Copies of the arrays of a state by their names in the network: the contents of a checkpoint."""
    params, stats = network.params.unpack(state.params), network.stats.unpack(state.stats)
    optimizer = jax.tree.map(lambda node: network.params.unpack(node) if isinstance(node, list) else node,
                             state.optimizer, is_leaf=lambda node: isinstance(node, list))
    named = {"model": nnx.merge_state(params, stats), "optimizer": optimizer}
    return named if state.centres is None else named | {"loss": {"centres": state.centres}}


def state_of(named: dict, step: int, seed: int) -> TrainState:
    """The state whose `named_arrays` these are."""
    params, stats = map(Layout.pack, nnx.split_state(named["model"], nnx.Param, ...))
    optimizer = jax.tree.map(lambda node: Layout.pack(node) if isinstance(node, nnx.State) else node,
                             named["optimizer"], is_leaf=lambda node: isinstance(node, nnx.State))
    return TrainState(params, stats, optimizer, jnp.int32(step), jnp.int32(seed), named.get("loss", {}).get("centres"))


def make_step(network: Network, optimizer: optax.GradientTransformation, config: ConfigDict, mesh: Mesh):
    """The jitted training step: (state, batch) -> (state, metrics); it donates the state.

    Its random key is that of the state's seed, folded with the step. A batch is a dict of frames uint8
    `[B, T, H, W, 3]`, rectangles int32 `[B, T, 4]` in pixels and labels int32 `[B]`. The network is in training mode;
    `augment`, `loss` and `train.accumulate` are read.
    """

    def loss_fn(learnt, stats, clips, cells, labels, erased):
        params, centres = learnt
        model = network.model(params, stats)
        output = model(clips, cells)
        loss, parts = objective(config.loss, output, labels, erased, centres)
        accuracy = jnp.mean(jnp.argmax(jnp.stack(output.logits), axis=-1) == labels)
        stats = Layout.pack(nnx.split(model, nnx.Param, ...)[2])
        return loss, (stats, {"loss": loss, **parts, "accuracy": accuracy})

    gradient = accumulate_gradients(jax.grad(loss_fn, has_aux=True), config.train.accumulate, mesh)

    def step(state: TrainState, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        clips, cells, erased = augment.prepare_training(key, batch["frames"], batch["rectangles"], config.augment,
                                                        network.stride)
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

