"""SIGTERM and Ctrl-C: finish what must not be torn, save, then stop."""

import signal
from contextlib import contextmanager


class Interrupted(Exception):
    """The run was asked to stop.

    Args:
        signum: the signal that asked.
    """

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignal:
    """Within this context SIGTERM and Ctrl-C set `received`; a second one ends the process as usual.

    Args:
        alone: False: other processes work on the same and must stop at the same place; nothing is dropped at once.
    """

    def __init__(self, alone: bool = True):
        self.received: int | None = None
        self._alone, self._at_once = alone, False
        self._previous = {}

    def __enter__(self) -> "StopSignal":
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    @contextmanager
    def at_once(self):
        """Within this context the signal raises `Interrupted`: for work that leaves nothing half-done."""
        if self.received is not None and self._alone:
            raise Interrupted(self.received)
        self._at_once = self._alone
        try:
            yield
        finally:
            self._at_once = False

    def _handle(self, signum: int, _frame) -> None:
        self.received = signum
        for each, handler in self._previous.items():
            signal.signal(each, handler)
        if self._at_once:
            raise Interrupted(signum)
