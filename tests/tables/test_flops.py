"""Costs, against those measured on the authors' code and those that the paper prints."""

import json
import math
import re

import pytest

from cfaan_jax.models.presets import PRESETS
from cfaan_jax.tables import flops
from tests.golden_cases import FOLDER

pytestmark = pytest.mark.slow

# Variant here -> entry of flops.json.
MEASURED = {
    "c2d": "c2d", "nonlocal": "nonlocal_", "nonlocal_sub": "nonlocal_subsampled",
    "axial_s1_none_1head": "axial_S1_nopos_1head", "axial_s1_none": "axial_S1_nopos",
    "axial_s1_sinusoidal": "axial_S1_sine", "axial_s1_relative": "cfaan_S1", "axial_s2": "cfaan_S2",
    "cfaan": "cfaan_S4"}
AP3D = {"p3d": "p3dc_5_blocks", "ap3d": "ap3d", "ap3d_nl": "ap3d_nl"}
FROZEN = 2048  # offsets of the neck, which the measurement counts as parameters



@pytest.mark.parametrize("variant", MEASURED)
def test_costs_are_those_measured_on_the_released_code(variant):
    measured = json.loads((FOLDER / "flops.json").read_text())["cf_aan_code"][MEASURED[variant]]
    one = flops.cost(variant)
    assert one.macs / 1e9 == pytest.approx(measured["total_gmacs"], abs=1e-5)
    assert round(one.macs / 1e9, 3) == round(measured["total_gmacs"], 3)
    assert one.attention / 1e9 == pytest.approx(measured["matmul_gmacs"], abs=1e-5)
    assert (one.parameters + FROZEN) / 1e6 == pytest.approx(measured["params_m"], abs=1e-5)


@pytest.mark.parametrize("variant", AP3D)
def test_costs_of_convolutions_along_time_are_those_measured_on_their_code(variant):
    measured = json.loads((FOLDER / "flops.json").read_text())["ap3d_code"][AP3D[variant]]
    one = flops.cost(variant)
    assert round(one.macs / 1e9, 3) == round(measured["total_gmacs"], 3)
    assert one.attention / 1e9 == pytest.approx(measured["matmul_gmacs"], abs=1e-4)
    assert one.parameters / 1e6 == pytest.approx(measured["params_m"], abs=1e-5)


@pytest.mark.parametrize("system, size, six_frames, frozen", [
    ("tclnet", (256, 128), "per_6_frames_gmacs", 0), ("ftwft", (224, 112), "one_6_frame_forward_gmacs", FROZEN)])
def test_costs_of_the_other_systems_are_those_measured_on_their_code(system, size, six_frames, frozen):
    measured = json.loads((FOLDER / "flops_peers.json").read_text())[system]
    _, _, macs, _, _, attention, parameters, *_ = flops.row(system, 4, size)
    assert macs == f"{measured['one_4_frame_forward_gmacs']:.3f}"
    of_six = flops.cost(system, 6, size).macs if system == "ftwft" else flops.cost(system, 4, size).macs * 6 / 4
    assert f"{of_six / 1e9:.3f}" == f"{measured[six_frames]:.3f}"
    assert float(parameters) + frozen / 1e6 == pytest.approx(measured["params_m"], abs=1e-3)
    assert attention == f"{measured.get('matmul_gmacs', 0):.3f}"


def rule(keys, sinusoids):
    """What the paper counts for attention, for each block with N = T H W: N keys (C / 2 + C), as if values had C
    channels, which have C / 2; and 3 C N where sinusoids are added along three axes."""
    total = 0
    for blocks, channels, height, width in ((2, 512, 32, 16), (3, 1024, 16, 8)):
        total += blocks * 6 * height * width * channels * (keys(6, height, width) * 3 / 2 + 3 * sinusoids)
    return round(total / 1e9, 3)


@pytest.mark.parametrize("variant, keys, sinusoids, expected", [
    ("nonlocal", lambda *lengths: math.prod(lengths), 0, 17.213),
    ("axial_s1_none_1head", lambda *lengths: sum(lengths), 0, 0.361),
    ("axial_s1_none", lambda *lengths: sum(lengths), 0, 0.361),
    ("axial_s1_sinusoidal", lambda *lengths: sum(lengths), 1, 0.377)])
def test_the_papers_figures_follow_from_its_rule(variant, keys, sinusoids, expected):
    assert rule(keys, sinusoids) == expected == flops.PUBLISHED_ADDED[variant]


def test_the_slim_network_adds_at_most_as_much_as_is_promised():
    assert flops.cost("cfaan_slim").macs - flops.cost("c2d").macs <= 2.2e9


def test_the_command_prints_a_row_for_every_variant(capsys):
    flops.main([])
    printed = capsys.readouterr().out
    assert all(f"| {variant} " in printed for variant in PRESETS)
    assert all(f" {figure} |" in printed for figure in ("25.075", "26.169", "37.091", "16.232", "12.620", "24.320"))
    assert re.findall(r" (\d+\.\d+) \|\n", printed) == [  # the paper's, in the order of the variants
        "17.213", "0.361", "0.361", "0.377", "0.424", "0.245", "0.126", "1.510", "1.849", "5.630"]
    assert "1x1 projection" in printed and "24.520" in printed
    with pytest.raises(SystemExit, match="0"):
        flops.main(["--help"])
    assert "Tables 2 and 4" in capsys.readouterr().out
