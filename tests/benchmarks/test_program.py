"""What the training step asks of a GPU: operations as traced, and kernels as compiled where the compiler is there."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from benchmarks.kernels import Card, Program
from cfaan_jax.experiment.config import create_model
from cfaan_jax.runtime.sharding import data_mesh
from cfaan_jax.train import optim
from cfaan_jax.train.step import Network, initial_state, make_step
from tests.experiment.test_config import small as small_config

# Of the shrunken networks below. A change that needs more of them says why.
TRACED = {"c2d": {"transpose": 50, "dot_general": 39, "reductions": 151, "products of strided slices": 0},
          "cfaan": {"transpose": 484, "dot_general": 477, "reductions": 1296, "products of strided slices": 0}}
# Kernels and bytes of the step of `small` networks compiled for an H200: those of jax 0.10.2 and a twentieth more.
COMPILED = {"c2d": (284, 0.242e9), "cfaan": (1889, 3.3e9)}


@pytest.mark.parametrize("variant", TRACED)
def test_the_traced_step_has_no_more_operations_than_it_had(variant):
    config = small_config(variant)
    config.model.compute = "bfloat16"
    model = nnx.eval_shape(lambda: create_model(config, 8))
    model.train()
    optimizer = optim.create(config.optim, 2)
    state = jax.eval_shape(lambda model: initial_state(config, 8, optimizer, model), model)
    shape = config.data.identities * config.data.tracklets, config.data.clip_length
    batch = {"frames": jax.ShapeDtypeStruct((*shape, *config.data.image_size, 3), jnp.uint8),
             "rectangles": jax.ShapeDtypeStruct((*shape, 4), jnp.int32),
             "labels": jax.ShapeDtypeStruct(shape[:1], jnp.int32)}
    step = make_step(Network.of(model), optimizer, config, data_mesh())
    counts = operations(step.trace(state, batch).jaxpr.jaxpr)
    assert {name: (counts[name], most) for name, most in TRACED[variant].items() if counts[name] > most} == {}


def operations(jaxpr) -> Counter:
    """How often a traced program transposes, multiplies, reduces, and multiplies what it took with gaps."""
    counts, with_gaps = Counter(), []
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        counts[name] += 1
        counts["reductions"] += name.startswith(("reduce", "argmax"))
        if name == "slice" and any(step > 1 for step in equation.params["strides"] or ()):
            with_gaps += equation.outvars
        counts["products of strided slices"] += name == "dot_general" and any(
            value is gap for value in equation.invars for gap in with_gaps)
        for inner in jaxprs_in_params(equation.params):
            counts += operations(inner)
    return counts


def test_operations_are_found_wherever_they_are():
    counts = operations(jax.make_jaxpr(jax.jit(lambda x: (x[::2].T @ x[::2]).sum()))(jnp.ones((4, 3))).jaxpr)
    assert counts["products of strided slices"] == 1 and counts["reductions"] >= 1 and counts["transpose"] >= 1


HLO = """%body (p: (f32[8])) -> (f32[8]) {
  %p = (f32[8]{0}) parameter(0)
  %inside = f32[8]{0} get-tuple-element(%p), index=0
  %twice = f32[8]{0} add(%inside, %inside)
  ROOT %out = (f32[8]{0}) tuple(%twice)
}

%takes_a_slice (a: f32[1000], b: f32[4]) -> f32[4] {
  %a = f32[1000]{0} parameter(0)
  %b = f32[4]{0} parameter(1)
  %slice = f32[4]{0} slice(%a), slice={[0:4]}
  ROOT %sum = f32[4]{0} add(%slice, %b)
}

ENTRY %main (x: f32[1000], y: f32[4], z: (f32[8])) -> f32[4] {
  %x = f32[1000]{0} parameter(0)
  %y = f32[4]{0} parameter(1)
  %z = (f32[8]{0}) parameter(2)
  %while = (f32[8]{0}) while(%z), condition=%never, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %fusion = f32[4]{0} fusion(%x, %y), kind=kLoop, calls=%takes_a_slice
  ROOT %transpose.3 = f32[4]{0} transpose(%fusion), dimensions={0}
}
"""


def test_kernels_are_counted_with_what_they_read_and_write():
    """The body of a loop once a turn; of an array of which only a slice is read, that slice."""
    loop, fusion, transpose = Program(HLO).kernels
    assert (loop.times, loop.size) == (5, 3 * 8 * 4)
    assert (fusion.times, fusion.size) == (1, 3 * 4 * 4)
    assert transpose.kind == "transposes and copies"
    assert [loop.seconds(Card(bandwidth, 1, least)) for bandwidth, least in ((1, 0), (96, 3))] == [5 * 96, 5 * 3]


@pytest.mark.slow
@pytest.mark.parametrize("variant", COMPILED)
def test_the_step_compiles_for_a_gpu_into_no_more_than_it_did(variant, small, tmp_path):
    pytest.importorskip("jax_cuda13_plugin", reason="compiling for a GPU needs the wheels of launch/check_cuda.sh")
    out = tmp_path / "gpu.json"
    subprocess.run(["env", "XLA_FLAGS=", sys.executable, "-m", "benchmarks.program", f"--out={out}", "--target=h200",
                    "--steps=training", *small, f"--variant={variant}", "--compute=bfloat16"], check=True,
                   cwd=Path(__file__).parents[2])
    row, = json.loads(out.read_text())["rows"]
    assert row["kernels"] <= COMPILED[variant][0] and row["traffic"] <= COMPILED[variant][1]
