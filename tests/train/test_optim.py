"""Learning rates and optimiser steps, against the authors' code."""

import jax
import numpy as np
import optax
import pytest

from cfaan_jax.experiment.recipes import recipe
from cfaan_jax.train import optim
from tests import golden_cases

STEPS_PER_EPOCH = 78


def settings(**changes):
    config = recipe().optim
    config.update(changes)
    return config


def released(what: str) -> dict[str, np.ndarray]:
    arrays, _ = golden_cases.read("lr_and_optimizer")
    return {key.removeprefix(what): array for key, array in arrays.items() if key.startswith(what)}


@pytest.mark.parametrize("schedule, warm_up", [("multistep", 0), ("warmup_multistep", 10)])
def test_every_epoch_has_the_released_learning_rate(schedule, warm_up):
    expected = released(schedule)[""]
    rate = jax.jit(jax.vmap(optim.learning_rate(settings(warmup_epochs=warm_up), STEPS_PER_EPOCH)))
    first = np.arange(len(expected)) * STEPS_PER_EPOCH
    for steps in (first, first + STEPS_PER_EPOCH - 1):  # an epoch's first step and its last
        np.testing.assert_allclose(rate(steps), expected, rtol=1e-5)


def test_five_steps_are_those_of_the_released_optimiser():
    params = released("adam/step0/")
    optimiser = optim.create(settings(), STEPS_PER_EPOCH)
    state = optimiser.init(params)
    for step in range(1, 6):
        updates, state = optimiser.update(released(f"adam/grad{step}/"), state, params)
        params = optax.apply_updates(params, updates)
        for name, expected in released(f"adam/step{step}/").items():
            # A step is about 1e-4, so this sees a hundredth of one.
            np.testing.assert_allclose(params[name], expected, rtol=0, atol=1e-6, err_msg=f"{name} in step {step}")


def test_weight_decay_goes_through_the_moments():
    """AdamW would move a weight by rate * decay; here a gradient of 0 and a weight of 1 give a whole step of Adam."""
    params, gradients = {"weight": np.ones(1, np.float32)}, {"weight": np.zeros(1, np.float32)}
    optimiser = optim.create(settings(), STEPS_PER_EPOCH)
    updates, _ = optimiser.update(gradients, optimiser.init(params), params)
    np.testing.assert_allclose(updates["weight"], -1e-4, rtol=1e-3)
