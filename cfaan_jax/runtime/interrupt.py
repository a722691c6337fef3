"""SIGTERM and Ctrl-C: finish what must not be torn, save, then stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The signal `signum` asked the run to stop. No `except Exception` in a library keeps it from the command."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignal:
    """Within this context SIGTERM and Ctrl-C set `received`; a second one ends the process as usual.

    With shared=True other processes work on the same and must stop at the same step, so no block is interrupted.
    """

    def __init__(self, shared: bool = False):
        self.received: int | None = None
        self._shared, self._raises = shared, False
        self._previous = {}

    def __enter__(self) -> "StopSignal":
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within this context the signal raises `Interrupted`: for work that leaves nothing half-done."""
        self._raises = not self._shared
        try:
            self._check()
            yield
            self._check()  # Python drops an exception that a handler raises inside a callback, as of garbage collection
        finally:
            self._raises = False

    def _check(self) -> None:
        if self._raises and self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        self.received = signum
        self.__exit__()
        self._check()
