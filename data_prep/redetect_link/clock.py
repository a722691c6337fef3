"""How long each stage of the work takes, over all threads and processes."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up the time of stages; threads may share it. A thread that waits for a core counts as working."""

    def __init__(self):
        self._seconds: dict[str, float] = defaultdict(float)
        self._frames: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str, frames: int) -> Iterator[None]:
        """Counts the time of the block as work on so many frames."""
        began = time.perf_counter()
        yield
        with self._lock:
            self._seconds[name] += time.perf_counter() - began
            self._frames[name] += frames

    def take(self) -> dict[str, tuple[float, int]]:
        """Seconds and frames of each stage since the last call, to be added to another clock."""
        with self._lock:
            taken = {name: (seconds, self._frames[name]) for name, seconds in self._seconds.items()}
            self._seconds.clear()
            self._frames.clear()
        return taken

    def add(self, taken: dict[str, tuple[float, int]]) -> None:
        """Adds what another clock took."""
        with self._lock:
            for name, (seconds, frames) in taken.items():
                self._seconds[name] += seconds
                self._frames[name] += frames

    def stages(self) -> dict[str, dict[str, float]]:
        """By stage: `seconds`, `share` of all of them, and `frames_per_second` of one thread."""
        total = sum(self._seconds.values())
        return {name: {"seconds": round(seconds, 3), "share": round(seconds / total, 4),
                       "frames_per_second": round(self._frames[name] / seconds, 1)}
                for name, seconds in self._seconds.items() if seconds}
