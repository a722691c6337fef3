"""What training costs: its speed, the wait for data, the memory of a device, and a trace of some steps."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import jax

METERED_STEPS = 10  # metrics are means over so many steps


class Meters:
    """Measures finished steps, from `start` on; see `utilisation.clips_at_peak`, None where that is not known."""

    def __init__(self, batch_size: int, clips_at_peak: float | None = None):
        self._batch_size, self._clips_at_peak = batch_size, clips_at_peak
        self.start()

    def start(self) -> None:
        """Restarts the clock after other work between two steps."""
        self._waited = 0.0
        self._marks = deque([(time.monotonic(), 0.0)], maxlen=METERED_STEPS + 1)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for the next batch."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def finished(self) -> dict[str, float]:
        """Metrics once a step is known to be finished.

        "waiting_for_data" is the share of the time in which the program waits for a batch; the device waits at most as
        long, since it works on the step before. "device_peak_gib", the most memory that a device of this process has
        held, is there where the device says it: CPUs do not. "model_flops_utilisation" is the share of a known peak.
        """
        self._marks.append((time.monotonic(), self._waited))
        (began, before), (now, waited) = self._marks[0], self._marks[-1]
        seconds = now - began
        peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        speed = self._batch_size * (len(self._marks) - 1) / seconds
        return {"clips_per_second": speed,
                "waiting_for_data": (waited - before) / seconds,
                **({} if peak is None else {"device_peak_gib": peak / 2**30}),
                **({"model_flops_utilisation": speed / self._clips_at_peak} if self._clips_at_peak else {})}


class StepTrace(AbstractContextManager["StepTrace"]):
    """Writes what the devices do in some steps, for TensorBoard's profile plugin, XProf and Perfetto.

    `steps` are the first and the last of them, counted from 1; empty: none. Leaving the block ends a trace.
    """

    def __init__(self, steps: Sequence[int], folder: Path):
        self._steps, self._folder, self._running = steps, folder, False

    def __exit__(self, *_) -> None:
        self._stop()

    def before(self, step: int) -> None:
        """Called before a step is sent off; a run that goes on among the steps traces those that are left."""
        if self._steps and not self._running and self._steps[0] <= step <= self._steps[1]:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int) -> None:
        """Called once a step is finished."""
        if self._running and step >= self._steps[1]:
            self._stop()

    def _stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            print(f"trace: {self._folder}; look at it with tensorboard --logdir={self._folder} or ui.perfetto.dev")
