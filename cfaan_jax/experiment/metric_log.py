"""The metrics of a training run: `metrics.csv` in the workdir, and the same through its loggers."""

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from cfaan_jax.errors import InputError, reason
from cfaan_jax.experiment.loggers import LOGGERS
from cfaan_jax.runtime.files import path_in_errors, write_atomic

METERS = ("clips_per_second", "waiting_for_data", "device_peak_gib", "model_flops_utilisation")
COLUMNS = ("step", "epoch", "loss", "triplet", "id_loss", "centre", "osm_caa", "attention", "accuracy", "learning_rate",
           *METERS, "mAP", "rank1")


def earlier_rows(path: Path, step: int, evaluated: int) -> list[dict]:
    """The rows of a metrics.csv up to a step, those of evaluations up to the step `evaluated`, without torn rows.

    InputError if it is another kind of file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            complete = (row for row in csv.DictReader(file) if None not in row and None not in row.values())
            return [{name: row.get(name, "") for name in COLUMNS} for row in complete
                    if int(row["step"]) <= (evaluated if row["mAP"] else step)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{path}: not training metrics ({reason(error)}); delete or restore it") from error


class MetricLog:
    """One row a step in `<workdir>/metrics.csv`, one for each periodic evaluation, and the same for other loggers.

    A row of a step has no mAP and rank1; a row of an evaluation has these only. `step` counts finished steps.

    Args:
        step, evaluated: of the checkpoint from which this run resumes, see `TrainingProgress`; later rows are deleted,
            since their steps come again.
        loggers, fields: names of `LOGGERS`, and the fields of the config by name, for loggers that store them.
    Raises:
        InputError: the package of a logger is not installed.
    """

    def __init__(self, workdir: str | Path, step: int = 0, evaluated: int = 0, *,
                 loggers: Sequence[str] = ("tensorboard",), fields: Mapping[str, Any] | None = None):
        self._path = Path(workdir) / "metrics.csv"
        rows = earlier_rows(self._path, step, evaluated) if self._path.exists() else []
        with ExitStack() as stack:  # a logger that cannot be opened closes those before it
            self._loggers = [stack.enter_context(closing(LOGGERS[name](self._path.parent, fields or {})))
                             for name in loggers]
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
            write_atomic(self._path, text.getvalue())
            self._rows = csv.DictWriter(stack.enter_context(self._path.open("a", newline="", buffering=1)), COLUMNS)
            self._stack = stack.pop_all()

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_) -> None:
        with path_in_errors(self._path):
            self._stack.close()

    def write(self, group: str, step: int, epoch: int, **metrics: float) -> None:
        """Writes metrics named as in `COLUMNS`; loggers get them as "group/name"."""
        with path_in_errors(self._path):
            self._rows.writerow({"step": step, "epoch": epoch, **metrics})
        headed = {f"{group}/{name}": value for name, value in metrics.items()}
        for logger in self._loggers:
            logger.write(step, headed)
