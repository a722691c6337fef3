"""How much of what its devices could do a program does: operations of a traced network, and peaks of chips."""

import math
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import jaxprs_in_params

# What a training step costs, in forward passes: by the usual convention the gradients of activations and of weights
# cost one each, and what is computed again for them (`config.model.remat`) does not count.
FORWARDS_IN_A_STEP = 3

# Functions of models/axial.py, and what their products add up over.
_RELATIVE = {"relative_logits": "depth", "relative_values": "length"}

# `device_kind` as JAX says it, and the most bfloat16 operations a second with dense matrices.
_PEAKS = (
    # https://cloud.google.com/tpu/docs/v4, .../v5e, .../v5p, .../v6e
    (r"TPU v4", 275e12),
    (r"TPU v5( lite|e)", 197e12),
    (r"TPU v5p?", 459e12),
    (r"TPU v6( lite|e)", 918e12),
    # NVIDIA's data sheets; those of H100 and H200 print twice as much, which sparse matrices reach
    (r"NVIDIA A100.*", 312e12),
    (r"NVIDIA H100 PCIe.*", 756e12),
    (r"NVIDIA H[12]00 NVL.*", 835e12),
    (r"NVIDIA H[12]00.*", 989e12),
)


def peak_flops(device_kind: str, compute: str) -> float | None:
    """Floating point operations a second that a device can reach, None where that is not known.

    float32 is held against what its products run on by JAX's default precision: on GPUs TF32, which is half as fast as
    bfloat16; on TPUs bfloat16 itself. For `compute`, see `layers.precision`.
    """
    if " MIG " in device_kind:  # a slice of a GPU under the name of the whole
        return None
    for kind, peak in _PEAKS:
        if re.fullmatch(kind, device_kind):
            return peak / 2 if compute == "float32" and device_kind.startswith("NVIDIA") else peak
    return None


def clips_at_peak(model: nnx.Module, clip_size: tuple[int, int, int], devices: Sequence[jax.Device],
                  compute: str) -> float | None:
    """Clips a second that training would reach at the peak of its devices of one kind, None where that is not known.

    `clip_size` is frames, rows and columns of a clip; for `compute`, see `peak_flops`.
    """
    peak = peak_flops(devices[0].device_kind, compute)
    return None if peak is None else len(devices) * peak / (FORWARDS_IN_A_STEP * forward_flops(model, clip_size))


def forward_flops(model: nnx.Module, clip_size: tuple[int, int, int]) -> int:
    """Operations of convolutions and matrix products for one clip, two for each multiply-accumulate."""
    graphdef, state = nnx.split(model)
    clip = jax.ShapeDtypeStruct((1, *clip_size, 3), jnp.float32)
    return 2 * macs(jax.make_jaxpr(lambda state, clip: nnx.merge(graphdef, state)(clip))(state, clip).jaxpr)


def macs(jaxpr, only_batched: bool = False) -> int:
    """Multiply-accumulates of the convolutions and matrix products of a traced program, inner programs included.

    `only_batched` counts only the products that go over a batch, line by line: those of attention. Of products with a
    table of relative positions those at the L positions of a line count, not all 2 L - 1 columns that are computed.
    """
    total = 0
    for equation in jaxpr.eqns:
        if (name := equation.params.get("name")) in _RELATIVE:
            (lines, heads, length, _), (depth, _) = (value.aval.shape for value in equation.invars)
            if {"depth": depth, "length": length}[_RELATIVE[name]] > 1:
                total += lines * heads * length**2 * depth
            continue
        if equation.primitive.name == "dot_general":
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            length = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            if length > 1 and (batch or not only_batched):  # over one element it multiplies, but adds nothing up
                total += equation.outvars[0].aval.size * length
        elif equation.primitive.name == "conv_general_dilated" and not only_batched:
            kernel, numbers = equation.invars[1].aval, equation.params["dimension_numbers"]
            outputs = kernel.shape[numbers.rhs_spec[0]]
            total += equation.outvars[0].aval.size * kernel.size // outputs
        repeats = equation.params.get("length", 1)  # of a scan
        total += repeats * sum(macs(program, only_batched) for program in jaxprs_in_params(equation.params))
    return total
