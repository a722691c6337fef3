"""Networks that compute in bfloat16: what stays float32, and how near they are to float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models
from cfaan_jax.experiment.recipes import recipe
from cfaan_jax.train.objective import objective
from tests.data_prep.checks import check_refused
from tests.models.transplants import DISTINCT, small_network


def network(name: str, compute: str) -> models.VideoReID:
    """Two frames of 64x32, or one of them where that is what the network takes; blocks that start as nothing do not."""
    model = small_network(name, num_classes=3, clip_length=1 if name == "ide" else 2, image_size=(64, 32),
                          width=16 if name.startswith("ap3d") else 8, compute=compute)
    rng = np.random.default_rng(0)
    nnx.update(model, jax.tree.map(lambda value: value if value.any() else jnp.asarray(
        rng.uniform(0.1, 0.5, value.shape), jnp.float32), nnx.state(model, nnx.Param)))
    return model


def clips(name: str) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(4, 1 if name == "ide" else 2, 64, 32, 3)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", (*DISTINCT, "ide"))
def test_features_are_near_those_in_float32_and_training_keeps_float32(name):
    features = {}
    for compute in models.COMPUTE:
        model = network(name, compute)
        graph, state = nnx.split(model)
        features[compute] = jax.jit(lambda state, x, graph=graph: nnx.merge(graph, state).features(x))(
            state, clips(name))
    one, other = (each.astype(np.float64) for each in map(np.asarray, features.values()))
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosines.min() > 0.99 and not np.array_equal(one, other)
    assert features["bfloat16"].dtype == jnp.float32
    model.train()
    graph, params, stats = nnx.split(model, nnx.Param, ...)

    def loss(params):
        model = nnx.merge(graph, params, stats, copy=True)
        output = model(clips(name))
        total, parts = objective(recipe().loss, output, np.array([0, 0, 1, 1]), np.zeros((4, 2), bool), None)
        return total, (parts, output, nnx.state(model, nnx.BatchStat))

    shapes = jax.eval_shape(jax.value_and_grad(loss, has_aux=True), params)
    assert {leaf.dtype for leaf in jax.tree.leaves((shapes, params))} == {np.dtype(np.float32)}


def test_maps_are_bfloat16_before_the_pooling():
    model = network("cfaan", "bfloat16")
    assert jax.eval_shape(lambda x: model.backbone(x), clips("cfaan")).dtype == jnp.bfloat16


def test_another_type_is_refused():
    check_refused("compute='float16'.*float32, bfloat16", models.create, "c2d", num_classes=2, compute="float16")
