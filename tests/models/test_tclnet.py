"""TCLNet's blocks, against the authors' code."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models
from cfaan_jax.models.backbone_hooks import BlockSite
from cfaan_jax.models.tclnet import SaliencyBoosting, SaliencyErasing, remaining_rows
from tests import golden_cases
from tests.data_prep.checks import check_refused
from tests.golden_cases import Case, channels_last
from tests.models.transplants import Transplant, check_against_reference, gradients, small_network


def of_kind(kind: str) -> list[str]:
    names = [name for name in golden_cases.names("tclnet_blocks")
             if Case("tclnet_blocks", name).settings["kind"] == kind]
    assert names, f"no case of {kind}"
    return names


def host(depth: int = 1) -> models.VideoReID:
    return small_network("tclnet", clip_length=2, depths=(1, 1, 1, depth))


def erasing(inputs: int, channels: int, depth: int = 1) -> Transplant:
    site = BlockSite(3, 0, depth, inputs, channels // 4, channels, (2, 6, 4), 1)
    one, network = SaliencyErasing(site, np.random.default_rng(0)), host(depth)
    network.backbone.last_stage = one
    return Transplant(network, one, "TSE_Module.")


def check(case: Case, transplant: Transplant, function, mode: str, **inputs) -> None:
    """Compares `function(block, **inputs)`, a list of outputs named in the case, gradients and statistics."""
    block = transplant.block
    transplant.load(transplant.named(nnx.state(block)) | case.group("param"))  # weights that the case lacks stay
    block.train() if mode == "train" else block.eval()
    names = ["out0", "out1"] if f"out0_{mode}" in {key.split("/")[1] for key in golden_cases.read(case.file)[0]
                                                   if key.startswith(f"{case.name}/")} else ["out"]

    def total(block, inputs):
        outs = function(block, **inputs)
        return sum((out * case[name.replace("out", "ct")]).sum() for name, out in zip(names, outs, strict=True)), outs

    outs, grads, (of_inputs,), statistics = gradients(block, total, (inputs,))
    for name, out in zip(names, outs, strict=True):
        case.check(f"{name}_{mode}", out)
    for name, gradient in of_inputs.items():
        case.check(f"grad_{name}_{mode}", gradient)
    named = transplant.named(grads)
    for name in case.group(f"grad_param_{mode}"):
        case.check(f"grad_param_{mode}/{name}", named[name])
    if mode == "train":
        named = transplant.named(statistics)
        for name in case.group("post"):
            case.check(f"post/{name}", named[name])


@pytest.mark.parametrize("name", of_kind("tsb"))
def test_saliency_boosting_is_the_references(name):
    case = Case("tclnet_blocks", name)
    network = host()
    network.backbone.attention[1][0] = SaliencyBoosting(case.settings["in_channels"], 1, np.random.default_rng(0))
    transplant = Transplant(network, network.backbone.attention[1][0], "layer2.1.")
    check_against_reference(case, transplant)
    x = channels_last(case["x"])
    attention = transplant.block.attend(x)
    case.check("attn_eval", attention)
    case.check("attended_eval", jnp.einsum("btp,bpc->btc", attention, x.reshape(len(x), -1, x.shape[-1])))


@pytest.mark.parametrize("name", of_kind("tse_correlation"))
def test_the_correlation_is_the_references(name):
    case = Case("tclnet_blocks", name)
    settings = case.settings

    def correlation(block, x1, x2):
        first, frames = jnp.moveaxis(x1, 1, -1), jnp.moveaxis(x2, 1, -1)
        return [jnp.stack([block.correlation(first, frames[:, t]) for t in range(frames.shape[1])], axis=1)]

    check(case, erasing(settings["in_channels"], settings["feature_channels"]), correlation, "eval", x1=case["x1"],
          x2=case["x2"])


@pytest.mark.parametrize("name", of_kind("tse_block_binarization"))
def test_the_erased_rows_are_the_references(name):
    case = Case("tclnet_blocks", name)
    maps, expected = case["f"], case["block_masks"]
    found = remaining_rows(jnp.asarray(maps.reshape(-1, *maps.shape[2:])))
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", of_kind("tse_erase_feature"))
def test_erasing_is_the_references(name, mode):
    case = Case("tclnet_blocks", name)
    kept = np.broadcast_to(case["masks"], case["soft_masks"].shape)

    def erase(block, x, soft_masks):
        return [jnp.moveaxis(block.erase(jnp.moveaxis(x, 1, -1), kept, soft_masks), -1, 1)]

    channels = case["x"].shape[1]
    check(case, erasing(channels, 2 * channels), erase, mode, x=case["x"], soft_masks=case["soft_masks"])


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", of_kind("tse_module"))
def test_a_pair_of_frames_is_the_references(name, mode):
    case = Case("tclnet_blocks", name)
    settings = case.settings

    def pair(block, x):
        maps = block(jnp.moveaxis(x, 1, -1))
        return [jnp.moveaxis(maps[:, i], -1, 1) for i in range(2)]

    check(case, erasing(settings["in_channels"], settings["feature_channels"], depth=3), pair, mode, x=case["x"])


def test_every_pair_of_a_long_clip_goes_its_own_way():
    block = erasing(16, 32).block
    block.eval()
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 4, 16), np.float32)
    whole = block(x)
    assert whole.shape == (2, 6, 6, 4, 32)
    for first in (0, 2, 4):
        np.testing.assert_allclose(whole[:, first:first + 2], block(x[:, first:first + 2]), rtol=1e-5, atol=1e-5)


def test_frames_that_make_no_pairs_are_refused():
    check_refused("clip_length=5: tclnet takes frames in pairs.*even", small_network, "tclnet", clip_length=5)
