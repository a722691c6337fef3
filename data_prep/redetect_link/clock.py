"""How long every stage of the work takes, over all threads and processes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up the time of stages; threads may share it. A thread that waits for a core counts as working."""

    def __init__(self):
        self._stages: dict[str, tuple[float, int]] = {}  # seconds and frames
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str, frames: int) -> Iterator[None]:
        """Counts the time of the block as work on so many frames."""
        start = time.perf_counter()
        yield
        self.add({name: (time.perf_counter() - start, frames)})

    def take(self) -> dict[str, tuple[float, int]]:
        """Seconds and frames of every stage since the last call, for `add` of another clock."""
        with self._lock:
            stages, self._stages = self._stages, {}
        return stages

    def add(self, stages: dict[str, tuple[float, int]]) -> None:
        """Adds what `take` of another clock returned."""
        with self._lock:
            for name, (seconds, frames) in stages.items():
                before = self._stages.get(name, (0.0, 0))
                self._stages[name] = before[0] + seconds, before[1] + frames

    def stages(self) -> dict[str, dict[str, float]]:
        """By stage: `seconds`, `share` of the seconds of all stages, and `frames_per_second` of one thread."""
        total = sum(seconds for seconds, _ in self._stages.values())
        return {name: {"seconds": round(seconds, 3), "share": round(seconds / total, 4),
                       "frames_per_second": round(frames / seconds, 1)}
                for name, (seconds, frames) in self._stages.items() if seconds}
