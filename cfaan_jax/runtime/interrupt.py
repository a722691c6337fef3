"""SIGTERM and Ctrl-C: finish what must not be torn, save, then stop."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_JAX = f"{os.sep}jax{os.sep}_src{os.sep}"


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

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.received = signum
        for each, handler in self._previous.items():
            signal.signal(each, handler)
        if self._at_once:
            _leave_jax(signum, frame)
            raise Interrupted(signum)


@contextmanager
def ctrl_c_anywhere() -> Iterator[None]:
    """Within this context Ctrl-C raises KeyboardInterrupt, or ends the process where that cannot be raised."""
    if threading.current_thread() is not threading.main_thread() or (
            signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    _leave_jax(signum, frame)
    raise KeyboardInterrupt


def _leave_jax(signum: int, frame: FrameType | None) -> None:
    """Ends the process if JAX is at work, where an exception gets lost in its callbacks or crashes the interpreter.

    To files that is as if it were killed, which leaves nothing half-written that would be taken for whole.
    """
    while frame is not None and _JAX not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return
    with suppress(Exception):  # what is printed at this moment cannot be printed into
        sys.stdout.flush()
        print(f"stopped by {signal.Signals(signum).name}", file=sys.stderr, flush=True)
        if sys.stdout.isatty():
            print("\x1b[?25h", end="", flush=True)  # the cursor, which a progress bar hides
    os._exit(128 + signum)
