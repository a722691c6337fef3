"""Single operations as ONNX nodes give what JAX gives, for any number of clips."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import export, lax

from cfaan_jax.deploy import jaxpr_to_onnx

KERNEL = np.random.default_rng(1).normal(size=(3, 2, 4, 6)).astype(np.float32)  # HWIO
FUNCTIONS = {
    "arithmetic": lambda x: jnp.where(x > 0, jnp.exp(-jnp.abs(x)), jnp.sign(x) * jax.nn.sigmoid(x)) / (1 + x * x),
    "remainders": lambda x: (jnp.int32(7 * x) % 3 + lax.rem(jnp.int32(7 * x), 4)).astype(jnp.float32),
    "normalised": lambda x: (x - x.mean((1, 2), keepdims=True)) * lax.rsqrt(x.var((1, 2), keepdims=True) + 1e-5),
    "softmax": lambda x: jax.nn.softmax(x.reshape(x.shape[0], -1), axis=1).reshape(x.shape),
    "convolution": lambda x: lax.conv_general_dilated(x, KERNEL, (2, 1), ((1, 2), (0, 1)), rhs_dilation=(1, 2),
                                                      dimension_numbers=("NHWC", "HWIO", "NHWC")),
    "products": lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x) @ KERNEL[0, 0, :3, :],
    "parts": lambda x: jnp.concatenate([x[:, 1::2], x[:, 0, None], x[:, 2:4]], axis=1)[:, :, 1:, -1],
    "stacked": lambda x: jnp.stack(jnp.split(x, [1], axis=3)[1:] + [x[..., 1:]], axis=1),
    "padded": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (3, 0)), constant_values=-jnp.inf)[..., ::2],
    "chosen": lambda x: jnp.take(x, np.array([[3, 0], [1, 1]]), axis=1),
    "stretched": lambda x: jnp.concatenate([jnp.ones_like(x[:, :1]), jnp.repeat(x, 2, axis=1),
                                            jnp.broadcast_to(x[:, :, :1].max(1, keepdims=True), x.shape)], axis=1),
    "largest": lambda x: (jnp.argmax(x.max((2, 3)), axis=1)[:, None] - jnp.arange(5)).astype(jnp.float32),
    "known": lambda x: jnp.broadcast_to(jnp.cumsum(jnp.arange(3.0)), (x.shape[0], 3))}


def converted(function, *shape: int) -> bytes:
    [clips] = export.symbolic_shape("clips")
    return jaxpr_to_onnx.convert(function, clips, {"x": jax.ShapeDtypeStruct((clips, *shape), jnp.float32)}, "y", {})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_operation_is_the_same_for_any_number_of_clips(name):
    session = onnxruntime.InferenceSession(converted(FUNCTIONS[name], 5, 3, 4), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        x = np.random.default_rng(count).normal(size=(count, 5, 3, 4)).astype(np.float32)
        [found] = session.run(None, {"x": x})
        np.testing.assert_allclose(found, FUNCTIONS[name](x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function, reason", [
    (lambda x: jnp.sort(x, axis=1), "the operation sort"),
    (lambda x: x.astype(jnp.bfloat16), "numbers of type bfloat16"),
    (lambda x: jnp.take(jnp.arange(4.0), jnp.int32(x), mode="clip"), "indexing with computed numbers")])
def test_what_cannot_be_converted_is_named(function, reason):
    with pytest.raises(jaxpr_to_onnx.NotConverted, match=reason):
        converted(function, 4)
