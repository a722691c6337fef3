"""Progress of long work: a live bar in a terminal, a plain line every 15 seconds in a log file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LOG_LINES = 15.0


class Progress:
    """Counts the finished items of one piece of work. Use it as a context manager and call `advance` for each item.

    Rich decides whether the output is a terminal and respects `NO_COLOR`. `label` says in a few words what is being
    done, `total` how many items there are, `start` how many of them an earlier run finished.
    """

    def __init__(self, label: str, total: int, start: int = 0):
        self.label, self.total, self.done = label, total, start
        self._console = Console()
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"), console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task(label, total=total, completed=start, metrics="")
        self._start, self._began = start, time.monotonic()
        self._last_line = self._began

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the bar and the clock while other work runs, which may show a bar of its own."""
        self._bar.stop()
        paused_at = time.monotonic()
        yield
        self._began += time.monotonic() - paused_at
        self._bar.start()

    def advance(self, count: int = 1, **metrics) -> None:
        """Reports `count` more finished items, with the metrics to show beside the bar (`loss=0.31`)."""
        self.done += count
        text = "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                         for name, value in metrics.items())
        self._bar.update(self._task, completed=self.done, metrics=text)
        now = time.monotonic()
        due = self.done >= self.total or now - self._last_line >= _SECONDS_BETWEEN_LOG_LINES
        if due and not self._console.is_terminal:
            self._last_line = now
            rate = (self.done - self._start) / max(now - self._began, 1e-9)
            line = f"{self.label}: {self.done}/{self.total}  {rate:.1f}/s  {text}".rstrip()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
