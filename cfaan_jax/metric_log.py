"""The figures of a training run: `metrics.csv` in the workdir, and where else its loggers write them."""

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from cfaan_jax.files import write_whole
from cfaan_jax.loggers import LOGGERS

METERS = ("clips_per_second", "waiting_for_data", "device_peak_gib")
COLUMNS = ("step", "epoch", "loss", "triplet", "id_loss", "centre", "osm_caa", "attention", "accuracy", "learning_rate",
           *METERS, "mAP", "rank1")


class MetricLog:
    """One row a step in `<workdir>/metrics.csv`, one for each periodic evaluation, and the same for other loggers.

    A row of a step has no mAP and rank1; a row of an evaluation has these only. `step` counts finished steps.

    Args:
        workdir: of the run.
        step: finished steps at the checkpoint from which this run goes on; later rows of the run that was cut off are
            taken out, their steps are about to come again.
        evaluated: the step of the latest evaluation in that checkpoint.
        loggers: names of `LOGGERS`.
        fields: of the config, by name, for those that keep them.

    Raises:
        InputError: the package of a logger is not installed.
    """

    def __init__(self, workdir: str | Path, step: int = 0, evaluated: int = 0, *,
                 loggers: Sequence[str] = ("tensorboard",), fields: Mapping[str, Any] | None = None):
        workdir = Path(workdir)
        with ExitStack() as opened:  # one that cannot be opened closes those before it
            self._loggers = []
            for name in loggers:
                self._loggers.append(LOGGERS[name](workdir, fields or {}))
                opened.callback(self._loggers[-1].close)
            file = opened.enter_context(_begun(workdir / "metrics.csv", step, evaluated))
            self._opened = opened.pop_all()
        self._rows = csv.DictWriter(file, COLUMNS)

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_) -> None:
        self._opened.close()

    def write(self, group: str, step: int, epoch: int, **figures: float) -> None:
        """Writes figures named as in `COLUMNS`; `group` is their heading where others get them."""
        self._rows.writerow({"step": step, "epoch": epoch, **figures})
        headed = {f"{group}/{name}": value for name, value in figures.items()}
        for logger in self._loggers:
            logger.write(step, headed)


def _begun(path: Path, step: int, evaluated: int) -> TextIO:
    """The file, with the rows of an earlier start that stay, open for more."""
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            complete = (row for row in csv.DictReader(file) if None not in row.values())
            rows = [row for row in complete if int(row["step"]) <= (evaluated if row["mAP"] else step)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
    return path.open("a", newline="", buffering=1)
