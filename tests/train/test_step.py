"""The training step: what it computes again, in parts, and how often it compiles."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from cfaan_jax.experiment.config import create_model
from cfaan_jax.runtime.sharding import data_mesh
from cfaan_jax.train import loop
from cfaan_jax.train.step import Network, initial_state, make_step
from tests.experiment.test_config import small
from tests.models.transplants import small_network
from tests.train.test_loop import run, tiny

CLASSES = 8


def batch(clips: int) -> dict[str, np.ndarray]:
    """Clips of noise, two of each identity side by side."""
    rng = np.random.default_rng(0)
    return {"frames": rng.integers(0, 256, (clips, 2, 64, 32, 3), np.uint8),
            "rectangles": np.tile(np.int32([0, 64, 0, 32]), (clips, 2, 1)),
            "labels": np.repeat(np.arange(clips // 2, dtype=np.int32), 2)}


def step_of(accumulate: int, seed: int = 0):
    """The step of a tiny network by plain gradient descent, without augmentation, and where it starts."""
    config = small()
    config.data.clip_length, config.train.accumulate, config.seed = 2, accumulate, seed
    config.augment.update(flip=0.0, erasing=0.0)
    model = create_model(config, CLASSES)
    model.train()
    optimizer = optax.sgd(1.0)
    state = initial_state(config, CLASSES, optimizer, model)
    return make_step(Network.of(model), optimizer, config, data_mesh()), state


@pytest.mark.slow
def test_another_seed_is_not_another_program():
    programs = {step.lower(state, batch(clips=4)).as_text() for step, state in (step_of(1, seed) for seed in (0, 7))}
    assert len(programs) == 1


@pytest.mark.slow
def test_gradients_in_parts_are_the_mean_of_those_of_the_parts():
    whole = batch(8)
    step, state = step_of(accumulate=2)
    found, figures = step(state, whole)
    step, state = step_of(accumulate=1)
    start, stats = jax.tree.map(jnp.copy, (state.params, state.stats))
    ends, losses = [], []
    for part in (slice(0, 4), slice(4, 8)):  # each from the same weights, with the statistics that the last one left
        state = state._replace(params=jax.tree.map(jnp.copy, start), stats=stats)
        state, of_part = step(state, jax.tree.map(lambda rows, part=part: rows[part], whole))
        stats = state.stats
        ends.append(state.params)
        losses.append(float(of_part["loss"]))
    for got, one, other in zip(*map(jax.tree.leaves, (found.params, *ends)), strict=True):
        np.testing.assert_allclose(got, (one + other) / 2, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda got, expected: np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5),
                 found.stats, stats)
    assert losses[0] != losses[1] and float(figures["loss"]) == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert int(found.step) == 1


# Running statistics, as those of batch normalisation, that see every part once.
ON_TWO_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from cfaan_jax.runtime.sharding import batch_sharding, data_mesh
from cfaan_jax.train.step import accumulate_gradients

def gradient(weight, running, rows):
    mean = rows.mean(0)
    return jax.grad(lambda weight: jnp.sum(weight * (rows - mean) ** 3))(weight), (
        0.5 * running + 0.5 * mean, {"mean": rows.mean()})

rows = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
found = []
for devices in (jax.devices()[:1], jax.devices()):
    mesh = data_mesh(devices)
    step = jax.jit(accumulate_gradients(gradient, 2, mesh))
    found.append(jax.device_get(step(jnp.ones(3), jnp.zeros(3), jax.device_put(rows, batch_sharding(mesh, 4)))))
assert len(jax.devices()) == 2
jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5), *found)
gradients, (running, metrics) = found[0]
first, last = rows[:4], rows[4:]
np.testing.assert_allclose(running, 0.25 * first.mean(0) + 0.5 * last.mean(0), rtol=1e-5)
expected = sum(((part - part.mean(0)) ** 3).sum(0) for part in (first, last)) / 2
np.testing.assert_allclose(gradients, expected, rtol=1e-4, atol=1e-5)
np.testing.assert_allclose(metrics["mean"], rows.mean(), rtol=1e-4)
"""


@pytest.mark.slow
def test_parts_hold_the_same_clips_on_any_number_of_devices():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def loss_of(remat: bool):
    """A small network in training, and (params, stats, clips) -> (a loss, statistics) of it."""
    model = small_network("nonlocal", clip_length=2, remat=remat)
    model.train()
    graphdef, params, stats = nnx.split(model, nnx.Param, ...)

    def loss(params, stats, clips):
        model = nnx.merge(graphdef, params, stats, copy=True)
        output = model(clips)
        weighed = sum(jnp.sum(jnp.sin(features)) for features in (*output.features, *output.logits))
        return weighed, nnx.split(model, nnx.Param, ...)[2]

    return loss, params, stats


@pytest.mark.slow
def test_activations_computed_again_change_nothing():
    """In float64: some gradients are 0 but for rounding."""
    clips, results = np.random.default_rng(0).normal(size=(4, 2, 16, 16, 3)), []
    with jax.enable_x64(True):
        for remat in (False, True):
            loss, *state = loss_of(remat)
            params, stats = jax.tree.map(lambda leaf: leaf.astype(np.float64), state)
            results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(params, stats, clips))
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9), *results)


def test_of_activations_computed_again_few_are_kept():
    kept = {}
    for remat in (False, True):
        loss, params, stats = loss_of(remat)
        clips = jax.ShapeDtypeStruct((512, 2, 16, 16, 3), jnp.float32)
        backward = jax.eval_shape(lambda clips, loss=loss, params=params, stats=stats: jax.vjp(
            lambda params: loss(params, stats, clips), params, has_aux=True)[1], clips)
        kept[remat] = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))
    assert kept[True] < kept[False] / 2


def test_evaluation_keeps_nothing_to_compute_again():
    traced = jax.make_jaxpr(small_network("c2d", remat=True).backbone)(
        jax.ShapeDtypeStruct((1, 1, 16, 16, 3), jnp.float32))
    assert "checkpoint" not in str(traced) and "remat" not in str(traced)


@pytest.mark.slow
def test_nothing_compiles_after_the_first_round(records_directory, tmp_path, monkeypatch):
    config = tiny(records_directory)
    config.train.update(epochs=2, checkpoint_every=1, evaluate_every=1, evaluate_clips="test_0")
    compiled, rounds, steps, save = [], [], [], loop._save
    monkeypatch.setattr(loop, "_save", lambda *arguments: (save(*arguments), rounds.append(len(compiled))))
    monkeypatch.setattr(loop, "make_step", lambda *arguments: steps.append(make_step(*arguments)) or steps[0])

    def heard(event: str, seconds: float, **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        run(config, tmp_path)
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    first, second = rounds  # each of two steps, an evaluation and a checkpoint
    assert 0 < first == second and steps[0]._cache_size() == 1
