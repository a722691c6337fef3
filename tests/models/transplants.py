"""Blocks of a network run alone, with weights, gradients and statistics under torch's names.

A block is put in the place of one in a small network, so that `cfaan_jax.weights` names its variables.
"""

from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from cfaan_jax import models, weights
from tests.golden_cases import Case, channels_first, channels_last

# Whose parts are not all in another one.
DISTINCT = ("nonlocal", "cfaan", "p3d", "ap3d_nl", "tclnet", "ftwft")


def thorough_jit(function: Callable) -> Callable:
    """`jax.jit` for what computes for long, whatever the environment says of how much to optimise."""
    return jax.jit(function, compiler_options={
        "xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": False})


def gradients(module: nnx.Module, value: Callable, inputs: tuple, fixed: tuple = (), jit: Callable = jax.jit):
    """`value(module, *inputs, *fixed) -> (number, what is looked at)` on a compiled copy of a module.

    Returns:
        what is looked at, the gradients of the number by the parameters and by the inputs, and the new statistics.
    """
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    @jit
    def step(params, inputs, fixed):
        def total(params, inputs):
            merged = nnx.merge(graph, params, rest, copy=True)
            number, seen = value(merged, *inputs, *fixed)
            return number, (seen, nnx.state(merged, nnx.BatchStat))
        return jax.grad(total, (0, 1) if inputs else 0, has_aux=True)(params, inputs)

    grads, (seen, statistics) = step(params, inputs, fixed)
    return seen, *(grads if inputs else (grads, ())), statistics


def small_network(name: str, **options) -> models.VideoReID:
    """A network with one bottleneck a stage and eight channels in its stem, where the options do not say otherwise."""
    small = dict(num_classes=2, clip_length=1, image_size=(16, 16), width=8, depths=(1, 1, 1, 1))
    return models.create(name, **small | options)


def named(model: models.VideoReID, state: nnx.State) -> dict[str, np.ndarray]:
    """Values for a model's variables under torch's names."""
    nnx.update(model, state)
    return weights.to_torch(model)


class Transplant:
    """A block in its host.

    Args:
        host: a network whose block of that kind the caller has replaced.
        block: the block that is there now.
        prefix: how torch's names of the block begin.
    """

    def __init__(self, host: models.VideoReID, block: nnx.Module, prefix: str):
        self.host, self.block, self.prefix = host, block, prefix

    def load(self, params: dict) -> None:
        """Fills the block; the names given must be exactly those that it has."""
        others = {name: array for name, array in weights.to_torch(self.host).items()
                  if not name.startswith(self.prefix)}
        weights.load_torch(self.host, others | {self.prefix + name: array for name, array in params.items()})

    def named(self, *states: nnx.State) -> dict:
        """Values for the block's variables (its own, or gradients) under torch's names."""
        before = jax.tree.map(lambda value: value, nnx.state(self.block))
        nnx.update(self.block, *states)
        found = {name.removeprefix(self.prefix): array for name, array in weights.to_torch(self.host).items()
                 if name.startswith(self.prefix)}
        nnx.update(self.block, before)
        return found


def check_against_reference(case: Case, transplant: Transplant) -> None:
    """Compares outputs, all gradients that are there, and the statistics after one training step if there are any.

    Args:
        case: with `x`, `ct` (gradients are of sum(out * ct)) and `param/...`.
        transplant: with the block under test.
    """
    def against_cotangent(block, x):
        out = block(x)
        return (out * channels_last(case["ct"])).sum(), out

    transplant.load(case.group("param"))
    has_statistics = any(name.endswith("running_mean") for name in case.group("param"))
    for mode in ("eval", "train") if has_statistics else ("eval",):
        transplant.block.train() if mode == "train" else transplant.block.eval()
        out, grads, (grad_x,), statistics = gradients(transplant.block, against_cotangent, (channels_last(case["x"]),))
        case.check(f"out_{mode}", channels_first(out))
        case.check(f"grad_x_{mode}", channels_first(grad_x))
        named = transplant.named(grads)
        for name in case.group(f"grad_param_{mode}"):
            case.check(f"grad_param_{mode}/{name}", named[name])
    assert bool(case.group("post")) == has_statistics, "the reference has statistics after a training step"
    named = transplant.named(statistics)
    for name in case.group("post"):
        case.check(f"post/{name}", named[name])
