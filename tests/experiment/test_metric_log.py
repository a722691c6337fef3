"""metrics.csv and TensorBoard scalars."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cfaan_jax.experiment.metric_log import COLUMNS, MetricLog
from tests.data_prep.checks import check_refused
from tests.workdirs import rows


def write(workdir, steps, evaluated: int) -> None:
    with MetricLog(workdir) as log:
        for step in steps:
            log.write("train", step, 1, loss=1 / step, accuracy=0.5)
        log.write("evaluation", evaluated, 1, mAP=0.25, rank1=0.5)


def test_steps_and_evaluations_are_rows_with_empty_fields_elsewhere(tmp_path):
    write(tmp_path, [1, 2], evaluated=2)
    assert list(rows(tmp_path)[0]) == list(COLUMNS)
    assert [(row["step"], row["loss"], row["mAP"]) for row in rows(tmp_path)] == [
        ("1", "1.0", ""), ("2", "0.5", ""), ("2", "", "0.25")]


def test_going_on_takes_out_the_rows_that_come_again(tmp_path):
    write(tmp_path, range(1, 6), evaluated=4)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("6,1,0.1")  # cut off in the middle of a line
    with MetricLog(tmp_path, step=4, evaluated=2) as log:
        log.write("train", 5, 1, loss=0.2)
    assert [(row["step"], row["mAP"]) for row in rows(tmp_path)] == [(step, "") for step in "12345"]


def test_a_finished_evaluation_stays(tmp_path):
    write(tmp_path, [1, 2], evaluated=2)
    with MetricLog(tmp_path, step=2, evaluated=2):
        assert [row["mAP"] for row in rows(tmp_path)] == ["", "", "0.25"]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe\x00", b"step,mAP\nx,\n", b"a,a\n\0,\0\n"])
def test_a_file_that_is_no_log_is_named(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    check_refused("metrics.csv: not training metrics", MetricLog, tmp_path, step=5)
    assert (tmp_path / "metrics.csv").read_bytes() == content


def test_tensorboard_reads_the_scalars(tmp_path):
    write(tmp_path, [1, 2], evaluated=2)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {tag: [event.step for event in events.Tensors(tag)] for tag in events.Tags()["tensors"]}
    assert found == {"train/loss": [1, 2], "train/accuracy": [1, 2], "evaluation/mAP": [2], "evaluation/rank1": [2]}
