"""Weights & Biases and MLflow get what metrics.csv gets; stand-ins take the place of their packages."""

import os
import sys
from types import SimpleNamespace

import pytest

from cfaan_jax.errors import InputError
from cfaan_jax.experiment.metric_log import MetricLog
from tests.workdirs import rows

CALLS = [(1, {"train/loss": 0.5, "train/accuracy": 0.25}), (1, {"evaluation/mAP": 0.125})]


def write(workdir, *loggers):
    with MetricLog(workdir, loggers=loggers, fields={"seed": 7}) as log:
        log.write("train", 1, 1, loss=0.5, accuracy=0.25)
        log.write("evaluation", 1, 1, mAP=0.125)


@pytest.fixture
def quiet(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME",
                 "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("mode", [None, "online"])
def test_wandb_stays_offline_unless_asked(tmp_path, quiet, mode):
    seen = []
    run = SimpleNamespace(log=lambda figures, step: seen.append((step, figures)),
                          finish=lambda: seen.append("finished"))
    quiet.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **given: seen.append(given) or run))
    if mode:
        quiet.setenv("WANDB_MODE", mode)
    write(tmp_path, "wandb")
    assert seen == [dict(project="cfaan-jax", group=tmp_path.name, dir=str(tmp_path), config={"seed": 7},
                         mode=mode or "offline"), *CALLS, "finished"]


@pytest.mark.parametrize("server", [None, "http://server"])
def test_mlflow_keeps_a_database_in_the_workdir_unless_a_server_is_named(tmp_path, quiet, server):
    seen = []
    names = ("set_tracking_uri", "set_experiment", "start_run", "log_params", "log_metrics", "end_run")
    quiet.setitem(sys.modules, "mlflow", SimpleNamespace(**{
        name: lambda *given, name=name, **named: seen.append((name, *given, named)) for name in names}))
    if server:
        quiet.setenv("MLFLOW_TRACKING_URI", server)
    write(tmp_path, "mlflow")
    place = [] if server else [("set_tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}", {})]
    assert seen == [*place, ("set_experiment", "cfaan-jax", {}), ("start_run", {"run_name": tmp_path.name}),
                    ("log_params", {"seed": 7}, {}),
                    *(("log_metrics", figures, {"step": step}) for step, figures in CALLS), ("end_run", {})]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_named_and_what_was_opened_is_closed(tmp_path, quiet, package):
    quiet.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"{package} is not installed .*; pip install {package}"):
        MetricLog(tmp_path, loggers=("tensorboard", package))
    assert not (tmp_path / "metrics.csv").exists()


def test_metrics_csv_is_written_without_any_logger(tmp_path):
    write(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
    assert [(row["loss"], row["mAP"]) for row in rows(tmp_path)] == [("0.5", ""), ("", "0.125")]
