"""Axial attention and the coarse-to-fine block, against the authors' code."""

import numpy as np
import pytest

from cfaan_jax.models.attention_maps import axial_block, block_maps, clip_maps, layer_maps
from cfaan_jax.models.axial import AxialAttention, AxialSettings, CoarseToFineBlock
from tests import golden_cases
from tests.data_prep.checks import check_refused
from tests.golden_cases import Case, channels_last
from tests.models.transplants import Transplant, check_against_reference, small_network

POSITIONAL = {"no": "none", "input_sine": "sinusoidal", "r_q": "relative_q", "r_qkv": "relative"}


def layer(case: Case) -> Transplant:
    settings, host = case.settings, small_network("cfaan", scales=1, heads=1)
    one = AxialAttention(settings["in_channel"], settings["out_channels"], settings["groups"], settings["kernel_size"],
                         settings["axial"][0], POSITIONAL[settings["positional"]], 1, np.random.default_rng(0))
    host.backbone.attention[1][0].scales[0][0] = one
    return Transplant(host, one, "base.layer2.1.axial_gran.0.")


@pytest.mark.parametrize("name", golden_cases.names("axial_attention"))
def test_one_axis_is_attended_as_in_the_reference(name):
    case = Case("axial_attention", name)
    check_against_reference(case, layer(case))


@pytest.mark.parametrize("name", golden_cases.names("axial_attention"))
def test_attention_sums_its_terms_as_in_the_reference(name):
    case = Case("axial_attention", name)
    transplant = layer(case)
    transplant.load(case.group("param"))
    one, x = transplant.block, channels_last(case["x"])
    one.eval()
    attention = np.asarray(layer_maps(one, x))
    assert attention.shape == (*x.shape[:4], one.heads, one.length)
    lines = np.moveaxis(attention, one.axis, 3).reshape(-1, one.length, one.heads, one.length)
    case.check("attn_eval", np.moveaxis(lines, 2, 1))


@pytest.mark.slow
def test_the_block_tells_the_attention_with_which_it_works():
    """Its maps, put in the place of its own attention, give its output: they are those of every scale and axis."""
    rng = np.random.default_rng(0)
    one = CoarseToFineBlock(16, (3, 4, 2), AxialSettings(scales=2, heads=2, order="twh"), 1, rng)
    one.bn2.scale[...] = 1.0
    one.eval()
    x = rng.standard_normal((2, 3, 4, 2, 16), np.float32)
    expected, maps = np.asarray(one(x)), block_maps(one, x)
    assert [list(scale) for scale in maps] == [list("twh")] * 2
    for scale, (rows, columns) in enumerate(((4, 2), (2, 1))):
        for axis, length in (("t", 3), ("h", rows), ("w", columns)):
            assert maps[scale][axis].shape == (2, 3, rows, columns, length)
            np.testing.assert_allclose(maps[scale][axis].sum(-1), 1, rtol=1e-5)
            along = one.scales[scale]["hwt".index(axis)]
            lines = np.moveaxis(np.asarray(maps[scale][axis]), along.axis, 3).reshape(-1, 1, length, length)
            along.attend = lambda query, key, lines=lines: lines
    np.testing.assert_allclose(one(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name if "S1_" in name else pytest.param(name, marks=pytest.mark.slow)
                                  for name in golden_cases.names("axial_block")])
def test_the_coarse_to_fine_block_is_the_references(name):
    case = Case("axial_block", name)
    settings, host = case.settings, small_network("cfaan", scales=1, heads=1)
    height, width, frames = settings["kernel_size"]
    options = AxialSettings(settings["granularity"], settings["groups"], POSITIONAL[settings["positional"]],
                            settings["order"], settings["inter_channel"])
    one = CoarseToFineBlock(settings["in_channel"], (frames, height, width), options, 1, np.random.default_rng(0))
    host.backbone.attention[1][0] = one
    check_against_reference(case, Transplant(host, one, "base.layer2.1."))


@pytest.mark.slow
def test_a_network_tells_the_attention_of_the_block_asked_for(monkeypatch):
    model = small_network("cfaan", clip_length=2, image_size=(32, 16), depths=(1, 1, 2, 1), scales=1, heads=1)
    given, call = {}, CoarseToFineBlock.__call__
    monkeypatch.setattr(CoarseToFineBlock, "__call__", lambda self, x: call(self, given.setdefault(id(self), x)))
    clips = np.random.default_rng(0).standard_normal((1, 2, 32, 16, 3), np.float32)
    model.backbone(clips)
    for number, layer in ((0, "conv3_1"), (1, "conv4_1"), (2, "conv4_2"), (-1, "conv4_2")):
        name, block = axial_block(model, number)
        assert name == layer
        [expected], [found] = block_maps(block, given[id(block)]), clip_maps(model, clips, number)
        for axis in "hwt":
            np.testing.assert_allclose(found[axis], expected[axis], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name, number", [("cfaan", 3), ("cfaan", -4), ("c2d", -1), ("nonlocal", 0)])
def test_a_block_that_is_not_there_is_refused(name, number):
    model = small_network(name, depths=(1, 1, 2, 1))
    check_refused(f"block {number}: this network has {3 if name == 'cfaan' else 0}", axial_block, model, number)


def test_the_block_starts_as_nothing():
    rng = np.random.default_rng(0)
    one = CoarseToFineBlock(8, (2, 2, 2), AxialSettings(scales=1, heads=1, positional="none"), 1, rng)
    x = rng.standard_normal((1, 2, 2, 2, 8), np.float32)
    one.train()
    np.testing.assert_array_equal(one(x), x)


@pytest.mark.parametrize("options, message", [
    (dict(positional="sine"), "positional='sine'.*relative_q"), (dict(order="hht"), "order='hht'.*'hwt'"),
    (dict(scales=4, heads=3), "scales=4, heads=3.*multiple of scales"),
    (dict(heads=6), "scales=4, heads=6.*multiple of scales"),
    (dict(scales=0), "scales=0"), (dict(inter_channels=0), "inter_channels=0")])
def test_settings_that_fit_no_block_are_refused(options, message):
    check_refused(message, AxialSettings, **options)


@pytest.mark.parametrize("channels, options, message", [
    (18, dict(scales=4), "18 channels.*scales=4"),
    (16, dict(scales=1, heads=3), "16 channels cannot have 3 heads"),
    (16, dict(scales=1, heads=16), "16 channels cannot have 16 heads")])
def test_channels_that_cannot_be_shared_out_are_refused(channels, options, message):
    check_refused(message, CoarseToFineBlock, channels, (2, 4, 4), AxialSettings(**options), 1,
                  np.random.default_rng(0))
