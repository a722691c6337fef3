"""Costs, against those measured on the authors' code and those that the paper prints."""

import json
from functools import lru_cache

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

cost = lru_cache(flops.cost)


@pytest.mark.parametrize("variant", MEASURED)
def test_costs_are_those_measured_on_the_released_code(variant):
    measured = json.loads((FOLDER / "flops.json").read_text())["cf_aan_code"][MEASURED[variant]]
    one = cost(variant)
    assert one.macs / 1e9 == pytest.approx(measured["total_gmacs"], abs=1e-5)
    assert round(one.macs / 1e9, 3) == round(measured["total_gmacs"], 3)
    assert one.attention / 1e9 == pytest.approx(measured["matmul_gmacs"], abs=1e-5)
    assert (one.parameters + FROZEN) / 1e6 == pytest.approx(measured["params_m"], abs=1e-5)
    assert 1.8 < one.compiler / one.macs < 2.1


@pytest.mark.parametrize("variant", AP3D)
def test_costs_of_convolutions_along_time_are_those_measured_on_their_code(variant):
    measured = json.loads((FOLDER / "flops.json").read_text())["ap3d_code"][AP3D[variant]]
    one = cost(variant)
    assert round(one.macs / 1e9, 3) == round(measured["total_gmacs"], 3)
    assert one.attention / 1e9 == pytest.approx(measured["matmul_gmacs"], abs=1e-4)
    assert one.parameters / 1e6 == pytest.approx(measured["params_m"], abs=1e-5)


@pytest.mark.parametrize("system, six_frames, frozen", [
    ("tclnet", "per_6_frames_gmacs", 0), ("ftwft", "one_6_frame_forward_gmacs", FROZEN)])
def test_costs_of_the_other_systems_are_those_measured_on_their_code(monkeypatch, system, six_frames, frozen):
    monkeypatch.setattr(flops, "cost", cost)
    measured = json.loads((FOLDER / "flops_peers.json").read_text())[system]
    _, _, macs, macs_of_six, attention, parameters = flops.own_row(system)
    assert macs == f"{measured['one_4_frame_forward_gmacs']:.3f}" and macs_of_six == f"{measured[six_frames]:.3f}"
    assert float(parameters) + frozen / 1e6 == pytest.approx(measured["params_m"], abs=1e-3)
    assert attention == f"{measured.get('matmul_gmacs', 0):.3f}"


@pytest.mark.parametrize("variant, expected", [
    ("nonlocal", 17.213), ("axial_s1_none_1head", 0.361), ("axial_s1_none", 0.361), ("axial_s1_sinusoidal", 0.377)])
def test_the_papers_figures_follow_from_its_rule(variant, expected):
    assert round(cost(variant).rule / 1e9, 3) == expected == flops.PUBLISHED_ADDED[variant]


@pytest.mark.parametrize("variant", ["axial_s1_relative", "axial_s2", "cfaan", "nonlocal_sub"])
def test_no_rule_is_claimed_for_the_others(variant):
    assert cost(variant).rule is None
    assert "reproducible" in flops.row("cfaan", cost("cfaan"), cost("c2d"))[-1]


def test_the_slim_network_adds_at_most_as_much_as_is_promised():
    assert cost("cfaan_slim").macs - cost("c2d").macs <= 2.2e9


def test_the_command_prints_a_row_for_every_variant(monkeypatch, capsys):
    monkeypatch.setattr(flops, "cost", cost)
    flops.main([])
    printed = capsys.readouterr().out
    assert all(f"| {variant} " in printed for variant in PRESETS)
    assert all(f"| {figure} " in printed for figure in ("25.075", "26.169", "37.091", "16.232", "12.620"))
    assert "| 24.320 |" in printed and "17.213 | 17.213" in printed and "1x1 projection" in printed


def test_help_answers(capsys):
    with pytest.raises(SystemExit) as stopped:
        flops.main(["--help"])
    assert stopped.value.code == 0 and "Table 2" in capsys.readouterr().out
