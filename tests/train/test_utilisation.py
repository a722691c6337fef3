"""Operations of traced programs, and the share of a chip's peak."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from cfaan_jax.train import utilisation
from cfaan_jax.train.meters import Meters
from tests.models.transplants import small_network

H100 = SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize("kind, bfloat16, float32", [
    ("TPU v4", 275e12, 275e12), ("TPU v4 lite", None, None), ("TPU v5 lite", 197e12, 197e12),
    ("TPU v5p", 459e12, 459e12), ("TPU v5", 459e12, 459e12), ("TPU v6 lite", 918e12, 918e12),
    ("NVIDIA A100-SXM4-80GB", 312e12, 156e12), ("NVIDIA H100 PCIe", 756e12, 378e12),
    (H100.device_kind, 989e12, 494.5e12), ("NVIDIA H200", 989e12, 494.5e12), ("NVIDIA H200 NVL", 835e12, 417.5e12),
    ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None, None), ("NVIDIA GeForce RTX 3090", None, None), ("cpu", None, None)])
def test_peaks_of_chips(kind, bfloat16, float32):
    assert utilisation.peak_flops(kind, "bfloat16") == bfloat16 and utilisation.peak_flops(kind, "float32") == float32


@pytest.mark.parametrize("remat", [False, True])
def test_training_at_the_peak_by_the_operations_of_the_network(remat):
    model = nnx.eval_shape(lambda: small_network("ide", num_classes=5, image_size=(64, 32), remat=remat))
    model.train()
    stem = 32 * 16 * 7 * 7 * 3 * 8
    # Of each stage: cells, inputs, inner channels; its 3x3 convolution has the stride, the first 1x1 has not.
    stages = [(128, 128, 8, 8), (128, 32, 32, 16), (32, 8, 64, 32), (8, 8, 128, 64)]
    inside = sum(before * inputs * inner + cells * (9 * inner * inner + 4 * inner * inner + inputs * 4 * inner)
                 for before, cells, inputs, inner in stages)
    flops = utilisation.forward_flops(model, (1, 64, 32))
    assert flops == 2 * (stem + inside + 256 * 5)
    found = utilisation.clips_at_peak(model, (1, 64, 32), [H100, H100], "bfloat16")
    assert found == pytest.approx(2 * 989e12 / (3 * flops))
    assert utilisation.clips_at_peak(model, (1, 64, 32), jax.devices("cpu"), "bfloat16") is None


def test_the_meter_is_the_share_of_the_peak():
    figures = Meters(batch_size=6, clips_at_peak=50.0).finished()
    assert figures["model_flops_utilisation"] == pytest.approx(figures["clips_per_second"] / 50)
    assert "model_flops_utilisation" not in Meters(batch_size=6).finished()


@pytest.mark.parametrize("function, shapes, expected, of_attention", [
    (lambda a, b: a @ b, [(2, 3), (3, 5)], 2 * 3 * 5, 0),
    (lambda a, b: jnp.einsum("bij,bjk->bik", a, b), [(7, 2, 3), (7, 3, 5)], 7 * 2 * 3 * 5, 7 * 2 * 3 * 5),
    (lambda a, b: a @ b, [(4, 1), (1, 4)], 0, 0),  # nothing is added up
    (lambda a, b: jax.jit(jnp.dot)(a, b) + 1, [(4,), (4,)], 4, 0),
    (lambda a, b: jax.lax.scan(lambda carry, _: (carry @ b, None), a, length=6)[0], [(2, 3), (3, 3)], 6 * 2 * 3 * 3, 0),
    (lambda a, b: jax.lax.conv_general_dilated(a, b, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
     [(2, 8, 6, 3), (3, 3, 3, 5)], 2 * 4 * 3 * 5 * 3 * 3 * 3, 0),
    (lambda a, b: jax.lax.conv_general_dilated(a, b, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                               feature_group_count=2),
     [(1, 4, 4, 6), (3, 3, 3, 8)], 4 * 4 * 8 * 3 * 3 * 3, 0)])
def test_products_are_counted_wherever_they_are(function, shapes, expected, of_attention):
    jaxpr = jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).jaxpr
    assert utilisation.macs(jaxpr) == expected
    assert utilisation.macs(jaxpr, only_batched=True) == of_attention
