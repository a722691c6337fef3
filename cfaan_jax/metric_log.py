"""The figures of a training run: `metrics.csv` and TensorBoard scalars in the workdir."""

import csv
import io
from pathlib import Path

from tensorboard.summary import Writer

from cfaan_jax.errors import InputError
from cfaan_jax.files import write_whole

METERS = ("clips_per_second", "waiting_for_data", "device_peak_gib")
COLUMNS = ("step", "epoch", "loss", "triplet", "id_loss", "centre", "osm_caa", "attention", "accuracy", "learning_rate",
           *METERS, "mAP", "rank1")


def earlier_rows(path: Path, step: int, evaluated: int) -> list[dict]:
    """The rows of a metrics.csv up to a step, and up to that of an evaluation; one that was cut short is left out.

    Raises:
        InputError: it is no such file.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            complete = (row for row in csv.DictReader(file) if None not in row and None not in row.values())
            return [{name: row.get(name, "") for name in COLUMNS} for row in complete
                    if int(row["step"]) <= (evaluated if row["mAP"] else step)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{path}: no readable training figures ({type(error).__name__}: {error}); delete it, or "
                         "restore what training wrote") from error


class MetricLog:
    """One row a step in `<workdir>/metrics.csv`, one for each periodic evaluation, and the same for TensorBoard.

    A row of a step has no mAP and rank1; a row of an evaluation has these only. `step` counts finished steps.

    Args:
        workdir: of the run.
        step: finished steps at the checkpoint from which this run goes on; later rows of the run that was cut off are
            taken out, their steps are about to come again.
        evaluated: the step of the latest evaluation in that checkpoint.
    """

    def __init__(self, workdir: str | Path, step: int = 0, evaluated: int = 0):
        path = Path(workdir) / "metrics.csv"
        rows = earlier_rows(path, step, evaluated) if path.exists() else []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue())
        self._file = path.open("a", newline="", buffering=1)
        self._rows = csv.DictWriter(self._file, COLUMNS)
        self._curves = Writer(str(Path(workdir) / "tensorboard"))

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        self._curves.close()

    def write(self, group: str, step: int, epoch: int, **figures: float) -> None:
        """Writes figures named as in `COLUMNS`; `group` is their heading in TensorBoard."""
        self._rows.writerow({"step": step, "epoch": epoch, **figures})
        for name, value in figures.items():
            self._curves.add_scalar(f"{group}/{name}", value, step)
