"""Speed, waiting and traces of training."""

import time

import pytest

from cfaan_jax.train.meters import Meters, StepTrace


def test_speed_and_waiting_are_those_of_the_clock():
    meters = Meters(batch_size=6)
    for _ in range(2):
        with meters.waiting():
            time.sleep(0.03)
        time.sleep(0.01)
        figures = meters.finished()
    assert 0 < figures["clips_per_second"] <= 6 / 0.04
    assert 0 < figures["waiting_for_data"] < 1
    meters.start()
    time.sleep(0.01)
    assert meters.finished()["waiting_for_data"] == 0


def test_a_trace_of_steps_that_are_past_or_never_come_is_none(tmp_path):
    for steps in ((), (1, 2), (9, 9)):
        with StepTrace(steps, tmp_path / "profile") as trace:
            for step in (3, 4):
                trace.before(step)
                trace.after(step)
    assert not (tmp_path / "profile").exists()


@pytest.mark.parametrize("first", [1, 5])
def test_a_trace_ends_with_the_training_and_begins_where_a_run_goes_on(first, tmp_path, capsys):
    with StepTrace((1, 9), tmp_path / "profile") as trace:
        trace.before(first)
        trace.after(first)
    assert any((tmp_path / "profile").rglob("*.xplane.pb"))
    assert str(tmp_path / "profile") in capsys.readouterr().out
