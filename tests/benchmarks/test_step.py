"""The figures of the step benchmark, from times that are given."""

import json
from itertools import cycle

import jax
import pytest

from benchmarks import step


@pytest.fixture
def clock(monkeypatch):
    """A clock that work itself moves on."""
    now = [0.0]
    monkeypatch.setattr(step.time, "perf_counter", lambda: now[0])

    def takes(*seconds):
        each = cycle(seconds)
        return lambda: now.__setitem__(0, now[0] + next(each))

    return takes


def test_rates_and_ratios(clock, monkeypatch, tmp_path, capsys):
    # The first turn warms up, a median leaves out one that was disturbed.
    networks = {"c2d": step.Prepared(step.Timed(clock(99, 2, 9, 2), []), step.Timed(clock(99, 0.5, 0.5, 7), []),
                                    flops=10**9, memory=2**30),
                "cfaan": step.Prepared(step.Timed(clock(99, 3, 3, 3), []), step.Timed(clock(99, 1, 1, 1), []),
                                      flops=2 * 10**9, memory=2**31)}
    monkeypatch.setattr(step, "prepared", lambda config: networks["cfaan" if config.model.name == "cfaan" else "c2d"])
    monkeypatch.setattr(step, "_product", lambda compute: clock(1, 0.5, 1, 1))
    out = tmp_path / "step.json"
    step.main([f"--out={out}", "--variants=c2d,cfaan", "--batch=8", "--steps=3"])
    base, other = json.loads(out.read_text())["rows"]
    assert (base["seconds_per_step"], base["forward_clips_per_second"], base["step_per_forward"]) == (2, 16, 4)
    assert (base["of_c2d"], other["of_c2d"]) == (1, 1.5)
    assert base["flops_per_second"] == 3 * 10**9 * 8 / 2
    assert base["peak"] == "measured product"
    assert base["of_peak"] == pytest.approx(base["flops_per_second"] / (2 * 2048**3 / 0.5))
    assert other["forward_of_peak"] == pytest.approx(2 * 10**9 * 8 / (2 * 2048**3 / 0.5))
    monkeypatch.setattr(step.utilisation, "peak_flops", lambda kind, compute: 1e12)
    step.main([f"--out={out}", "--variants=cfaan", "--batch=8", "--steps=3", "--compute=bfloat16"])
    row, = json.loads(out.read_text())["rows"]
    assert row["of_c2d"] is None and row["peak"] == "stated" and row["compute"] == "bfloat16"
    assert row["of_peak"] == pytest.approx(3 * 2 * 10**9 * 8 / 3 / 1e12)
    assert "measured product" in capsys.readouterr().out


@pytest.mark.parametrize("compute, product, peak", [
    ("float32", "stablehlo.dot_general", "stated"), ("float32_highest", "HIGHEST", "measured product"),
    ("bfloat16", "bf16", "stated")])
def test_the_numbers_asked_for_are_computed_with(compute, product, peak, clock, monkeypatch, tmp_path):
    def prepared(config):
        ones = jax.numpy.ones((2, 2), config.model.compute)
        programs.append(jax.jit(jax.numpy.matmul).lower(ones, ones).as_text())
        return step.Prepared(step.Timed(clock(1), []), step.Timed(clock(1), []), flops=1, memory=1)

    programs, out = [], tmp_path / "step.json"
    monkeypatch.setattr(step, "prepared", prepared)
    monkeypatch.setattr(step, "_product", lambda compute: clock(1))
    monkeypatch.setattr(step.utilisation, "peak_flops", lambda kind, compute: 1e12)
    step.main([f"--out={out}", "--variants=c2d", f"--compute={compute}", "--steps=1"])
    row, = json.loads(out.read_text())["rows"]
    assert (row["compute"], row["peak"]) == (compute, peak)
    assert product in programs[0] and ("HIGHEST" in programs[0]) == compute.endswith("highest")
