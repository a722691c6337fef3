"""The training step: what it computes again."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cfaan_jax import models
from tests.models.transplants import quick_jit


def test_activations_computed_again_change_nothing():
    clips = np.random.default_rng(0).normal(size=(4, 2, 16, 16, 3)).astype(np.float32)
    found = {}
    for remat in (False, True):
        model = models.create("nonlocal", num_classes=3, clip_length=2, image_size=(16, 16), width=8,
                              depths=(1, 1, 1, 1), remat=remat)
        model.train()
        graphdef, params, stats = nnx.split(model, nnx.Param, ...)

        def loss(params, stats, graphdef=graphdef):
            model = nnx.merge(graphdef, params, stats, copy=True)
            output = model(clips)
            weighed = sum(jnp.sum(jnp.sin(features)) for features in (*output.features, *output.scores))
            return weighed, nnx.split(model, nnx.Param, ...)[2]

        program = quick_jit(jax.value_and_grad(loss, has_aux=True))
        found[remat] = program(params, stats)
        again = program.trace(params, stats).lower().as_text().count("optimization_barrier")
        assert bool(again) == remat
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), *found.values())


def test_evaluation_keeps_nothing_to_compute_again():
    model = models.create("c2d", num_classes=3, clip_length=1, image_size=(64, 32), width=8, depths=(1, 1, 1, 1),
                          remat=True)
    traced = jax.make_jaxpr(model.backbone)(jax.ShapeDtypeStruct((1, 1, 64, 32, 3), jnp.float32))
    assert "checkpoint" not in str(traced) and "remat" not in str(traced)
