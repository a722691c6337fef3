"""What runs on a TPU, seen from a machine without one: the programs are lowered for it."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from cfaan_jax.evaluate.features import compiled_features
from cfaan_jax.experiment.config import create_model
from cfaan_jax.runtime.sharding import data_mesh
from cfaan_jax.train import optim
from cfaan_jax.train.step import Network, initial_state, make_step
from tests.experiment.test_config import small

pytestmark = pytest.mark.slow

CLASSES = 8


def lowered(function, *arguments) -> str:
    """The program for a TPU; an operation that it does not know is an error."""
    return function.trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()


@pytest.fixture(params=["c2d", "cfaan", "ap3d_nl", "tclnet", "ftwft"])
def system(request):
    """Config, graph and abstract arrays of a network, and what goes in: nothing is computed."""
    config = small(request.param)
    config.data.update(clip_length=4, identities=4, tracklets=2)
    model = nnx.eval_shape(lambda: create_model(config, CLASSES))
    clips = jax.ShapeDtypeStruct((8, 4, *config.data.image_size, 3), jnp.uint8)
    return config, model, clips, jax.ShapeDtypeStruct((8, 4, 4), jnp.int32)


def test_the_training_step_lowers(system):
    config, model, frames, rectangles = system
    model.train()
    optimizer = optim.create(config.optim, 2)
    state = jax.eval_shape(partial(initial_state, config, CLASSES, optimizer), model)
    step = make_step(Network.of(model), optimizer, config, data_mesh())
    batch = {"frames": frames, "rectangles": rectangles, "labels": jax.ShapeDtypeStruct((8,), jnp.int32)}
    assert "stablehlo.convolution" in lowered(step, state, batch)


def test_the_evaluation_step_lowers(system):
    _, model, frames, rectangles = system
    model.eval()
    graphdef, state = nnx.split(model)
    arrays, structure = jax.tree.flatten(state)
    assert "stablehlo.convolution" in lowered(compiled_features(graphdef, structure, None), arrays, frames, rectangles)
