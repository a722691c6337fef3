"""Reports of finished training steps: metrics.csv and other loggers, the progress bar, the meters and the trace."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from cfaan_jax.errors import InputError
from cfaan_jax.experiment.checkpoint import TrainingProgress
from cfaan_jax.experiment.fields import flatten
from cfaan_jax.experiment.metric_log import MetricLog
from cfaan_jax.runtime.distributed import is_first_process
from cfaan_jax.runtime.progress import Progress
from cfaan_jax.train import optim
from cfaan_jax.train.meters import Meters, StepTrace

# From a description and a step, the error of a run that diverged there.
Divergence = Callable[[str, int], InputError]


_STEPS_AHEAD = 2  # that the device has to do when the host reads the metrics of a step


class StepLog(AbstractContextManager["StepLog"]):
    """Reports a step once two more are dispatched, so that the device never waits for the host to read metrics.

    A run of `total` steps starts at `progress`; `divergence_error` makes the error for a loss that is not finite.
    """

    def __init__(self, config: ConfigDict, workdir: str | Path, total: int, progress: TrainingProgress, meters: Meters,
                 steps_per_epoch: int, divergence_error: Divergence):
        self._learning_rate = optim.learning_rate(config.optim, steps_per_epoch)
        self._steps_per_epoch, self._meters, self._divergence_error = steps_per_epoch, meters, divergence_error
        self._pending: deque[tuple[int, dict, int | jax.Array]] = deque()
        self._measures = False
        with ExitStack() as stack:
            self._trace = stack.enter_context(StepTrace(config.train.profile, Path(workdir) / "profile"))
            self._metrics = stack.enter_context(MetricLog(
                workdir, progress.step, progress.evaluated, loggers=config.train.loggers,
                fields=flatten(config.to_dict()))) if is_first_process() else None
            self._bar = stack.enter_context(Progress(f"train {config.model.name}", total, progress.step))
            self._stack = stack.pop_all()

    def __exit__(self, *_) -> None:
        self._stack.close()

    def next_batch(self, batches: Iterator[dict], step: int) -> dict:
        """The batch of a step, counted from 1; the time of waiting for it is measured."""
        if not self._measures:
            self._meters.start()
            self._measures = True
        with self._meters.waiting():
            batch = next(batches)
        self._trace.before(step)
        return batch

    def add(self, step: int, metrics: dict[str, jax.Array], stop: int | jax.Array) -> int:
        """Takes a dispatched step, counted from 1, and reports the one of two steps before, whose `stop` is returned.

        `stop` is the signal that asks all processes to stop, 0 for none. InputError: the reported loss is not finite.
        """
        self._pending.append((step, metrics, stop))
        return self._report(*self._pending.popleft()) if len(self._pending) > _STEPS_AHEAD else 0

    def flush(self) -> None:
        """Reports all dispatched steps, before other work; the meters restart with the next step."""
        self._measures = False
        while self._pending:
            self._report(*self._pending.popleft())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around other work that may show a bar of its own; it begins with `flush`."""
        self.flush()
        with self._bar.paused():
            yield

    def evaluation(self, step: int, **metrics: float) -> None:
        """Writes the metrics of a periodic evaluation."""
        if self._metrics is not None:
            self._metrics.write("evaluation", step, epoch_of(step, self._steps_per_epoch), **metrics)

    def _report(self, step: int, metrics: dict[str, jax.Array], stop: int | jax.Array) -> int:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        meters = self._meters.finished()  # the step is known to be finished only now
        self._trace.after(step)
        if not math.isfinite(values["loss"]):
            raise self._divergence_error(f"the loss is {values['loss']}", step)
        values["learning_rate"] = float(self._learning_rate(np.int32(step - 1)))
        if self._metrics is not None:
            self._metrics.write("train", step, epoch_of(step, self._steps_per_epoch), **values, **meters)
        self._bar.advance(loss=values["loss"], accuracy=values["accuracy"], lr=values["learning_rate"],
                          **{"clips/s": meters["clips_per_second"]})
        return int(stop)


def epoch_of(step: int, steps_per_epoch: int) -> int:
    """The epoch, counted from 1, to which a finished step belongs."""
    return (step - 1) // steps_per_epoch + 1
