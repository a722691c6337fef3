"""Loggers of a training run beside metrics.csv: `config.train.loggers` names some of `LOGGERS`.

Nothing leaves the machine unless the environment asks for it: Weights & Biases writes into the workdir until WANDB_MODE
says `online`, MLflow into a database there until MLFLOW_TRACKING_URI names a server.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from tensorboard.summary import Writer

from cfaan_jax.errors import InputError

_PROJECT = "cfaan-jax"
# The writer imports all of TensorFlow, seconds long, where that is installed and no module of this name is there.
sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))


class Logger(Protocol):
    """Takes metrics by names such as "train/loss"."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Scalars in `<workdir>/tensorboard`."""

    def __init__(self, workdir: Path, fields: Mapping[str, Any]):
        self._curves = Writer(str(workdir / "tensorboard"))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._curves.add_scalar(name, value, step)

    def close(self) -> None:
        self._curves.close()


class WeightsAndBiases:
    """A run for each start, those of a workdir in one group; `wandb sync` sends what was written offline."""

    def __init__(self, workdir: Path, fields: Mapping[str, Any]):
        self._run = _imported("wandb").init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), group=workdir.name, dir=str(workdir),
            config=dict(fields), mode=os.environ.get("WANDB_MODE", "offline"))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run for each start, named after the workdir."""

    def __init__(self, workdir: Path, fields: Mapping[str, Any]):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it reports its use to its makers otherwise
        self._mlflow = _imported("mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            self._mlflow.set_tracking_uri(f"sqlite:///{workdir.absolute() / 'mlflow.db'}")
        self._mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT))
        self._mlflow.start_run(run_name=workdir.name)
        self._mlflow.log_params(dict(fields))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


LOGGERS: dict[str, Callable[[Path, Mapping[str, Any]], Logger]] = {
    "tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


def _imported(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"config.train.loggers: {package} is not installed ({error}); pip install {package}, or leave "
                         "it out") from error
