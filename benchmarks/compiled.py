"""The programs of a training and an evaluation step, compiled for any devices without arrays, and what they cost."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, Sharding
from jax.stages import Compiled
from ml_collections import ConfigDict

from cfaan_jax.errors import InputError
from cfaan_jax.evaluate.features import compiled_features
from cfaan_jax.experiment.config import create_model
from cfaan_jax.runtime.sharding import batch_sharding, replicated
from cfaan_jax.train import optim
from cfaan_jax.train.step import Network, initial_state, make_step

CLASSES = 625  # training identities of MARS
_STEPS_PER_EPOCH = 78
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# The result of an operation, its name and its channel; of one in two halves the second half, which gives the result.
_COLLECTIVE = re.compile(rf"= (?P<shape>\(.*?\)|\S+) (?P<kind>{'|'.join(_COLLECTIVES)})(-done)?\("
                         r"(?:.*?channel_id=(?P<channel>\d+))?")
_ARRAY = re.compile(r"(?P<kind>[a-z]+)(?P<bits>\d+)\w*\[(?P<shape>[\d,]*)\]")


def refuse_parts(config: ConfigDict) -> None:
    """InputError for gradients in parts, which are a loop: of a loop the compiler's own count has one turn."""
    if config.train.accumulate > 1:
        raise InputError(f"--accumulate={config.train.accumulate}: the compiler counts work and exchanges of one part "
                         "only; leave it out")


def training_step(config: ConfigDict, mesh: Mesh, classes: int = CLASSES) -> Compiled:
    """The training step of `make_step`.

    Raises:
        ValueError: the state that it gives is of another kind than what it takes, so that the next step compiles again.
    """
    model = nnx.eval_shape(lambda: create_model(config, classes))
    model.train()
    optimizer = optim.create(config.optim, _STEPS_PER_EPOCH)
    state = jax.eval_shape(partial(initial_state, config, classes, optimizer), model)
    state, clips = _placed(state, replicated(mesh)), config.data.identities * config.data.tracklets
    frames, rectangles = _batch(config, clips, batch_sharding(mesh, clips))
    labels = jax.ShapeDtypeStruct((clips,), jnp.int32, sharding=batch_sharding(mesh, clips))
    step = make_step(Network.of(model), optimizer, config, mesh).trace(
        state, {"frames": frames, "rectangles": rectangles, "labels": labels})
    compiled = step.lower().compile()
    if _kinds(state) != _kinds(step.out_info[0]) or not all(
            where.is_fully_replicated for where in jax.tree.leaves(compiled.output_shardings[0])):
        raise ValueError("a step gives a state of another kind than what it took: the next step compiles again")
    return compiled


def evaluation_step(config: ConfigDict, mesh: Mesh) -> Compiled:
    """The step of `evaluate.features.extract`: a batch of clips to features."""
    model = nnx.eval_shape(lambda: create_model(config, CLASSES))
    graphdef, state = nnx.split(model)
    arrays, structure = jax.tree.flatten(_placed(state, replicated(mesh)))
    clips = _batch(config, config.eval.batch, batch_sharding(mesh, config.eval.batch))
    return compiled_features(graphdef, structure, replicated(mesh)).lower(arrays, *clips).compile()


def memory(compiled: Compiled) -> dict[str, int]:
    """Bytes of a program on each device.

    "arguments": what goes in; "temporary": what is computed on the way, at the most; "held": both, and what comes out
    where that does not take the place of what went in.
    """
    planned = compiled.memory_analysis()
    # The compiler's own `peak_memory_in_bytes` leaves out what is temporary on some platforms.
    arguments, temporary = planned.argument_size_in_bytes, planned.temp_size_in_bytes
    held = arguments + temporary + planned.output_size_in_bytes - planned.alias_size_in_bytes
    return {"arguments": arguments, "temporary": temporary, "held": held}


def collectives(program: str) -> dict[str, tuple[int, int]]:
    """How many exchanges of each kind stand in the text of a compiled program, and the bytes of their results."""
    found: dict[str, tuple[int, int]] = {}
    channels = set()  # a TPU's program names an exchange that goes on beside other work several times
    for match in _COLLECTIVE.finditer(program):
        if match["channel"] in channels:
            continue
        channels |= {match["channel"]} - {None}
        count, size = found.get(match["kind"], (0, 0))
        found[match["kind"]] = count + 1, size + _bytes(match["shape"])
    return found


def _bytes(shape: str) -> int:
    return sum(int(array["bits"]) // 8 * math.prod(int(n) for n in array["shape"].split(",") if n)
               for array in _ARRAY.finditer(shape))


def _batch(config: ConfigDict, clips: int, where: Sharding) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    shape = clips, config.data.clip_length
    return (jax.ShapeDtypeStruct((*shape, *config.data.image_size, 3), jnp.uint8, sharding=where),
            jax.ShapeDtypeStruct((*shape, 4), jnp.int32, sharding=where))


def _placed(tree, where: Sharding):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree)


def _kinds(tree) -> list[tuple]:
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]
