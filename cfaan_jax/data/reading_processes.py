"""Clips that processes of their own read, into memory that they share with this one.

Threads of one process wait for each other whenever they work in Python; processes do not.
"""

import fcntl
import math
import mmap
import os
import pickle
import queue
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
import weakref
from functools import cached_property
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import cfaan_jax
from cfaan_jax.data.reading import Memory, read_into
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError

_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve({connection}, {file}, {maker})"
_REMEDY = "read by fewer of them (--config.data.workers) or by threads (--config.data.processes=False)"
_PIECE = 1 << 28  # bytes of the shared memory that are mapped at once: each piece takes a descriptor
_SHIFT = 16  # bytes: images that begin at a multiple of 32 libjpeg-turbo writes past the cache, a tenth slower
_PATIENCE = 2  # seconds between two looks at whether the maker still lives


class ReadingProcesses:
    """As `reading.ClipReader`, by processes that this one starts; safe to use from several threads.

    They end with this object or with the process that made it. Ctrl-C does not reach them. One that ends before, as for
    want of memory, is started again. Of a process forked from this one they take no requests, and what they have read
    changes there when it does here.

    Args:
        records: each process opens them again.
        count: how many processes.

    Raises:
        InputError: they cannot be started.
    """

    def __init__(self, records: RecordSet, count: int):
        self._maker, self._shared = os.getpid(), _SharedMemory(_memory_file())
        self._memory, self._places = Memory(self._fresh, kept=sys.maxsize), {}
        self._idle = queue.SimpleQueue()
        content = pickle.dumps(records)
        for _ in range(count):
            self._idle.put(_Process(content, self._shared.file))

    def __call__(self, positions: np.ndarray, indices: np.ndarray,
                 image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """As `reading.ClipReader`; waits until a process is free.

        Raises:
            InputError: what reading raises, or a process has ended twice on this, or this one did not make them.
        """
        if os.getpid() != self._maker:
            raise InputError("this process did not start the processes that read the data; make the reader anew in it")
        frames = self._memory.take((*indices.shape, *image_size, 3))
        process = self._idle.get()
        try:
            answer = process.read(self._places[frames.ctypes.data], frames.shape, positions, indices)
        finally:
            self._idle.put(process)
        if isinstance(answer, Exception):
            raise answer
        return frames, answer

    def _fresh(self, shape: tuple[int, ...]) -> np.ndarray:
        place = self._shared.claim(math.prod(shape))
        frames = self._shared.array(place, shape)
        self._places[frames.ctypes.data] = place
        return frames


class _SharedMemory:
    """A file that several processes map in pieces, one behind the other, as any of their arrays needs them."""

    def __init__(self, file: int):
        self.file, self._pieces = file, {}
        self._last = 0, 0, 0  # start and length of the last piece, and how much of it is used
        weakref.finalize(self, os.close, file)

    def claim(self, size: int) -> tuple[int, int, int]:
        """Room for so many bytes: start and length of the piece that it lies in, and where in that."""
        (start, length, used), needed = self._last, _whole_pages(size + _SHIFT)
        if used + needed > length:
            start, length, used = start + length, max(_PIECE, needed), 0
            os.ftruncate(self.file, start + length)
        self._last = start, length, used + needed
        return start, length, used + _SHIFT

    def array(self, place: tuple[int, int, int], shape: tuple[int, ...]) -> np.ndarray:
        """What lies there, uint8."""
        start, length, within = place
        if start not in self._pieces:
            self._pieces[start] = mmap.mmap(self.file, length, offset=start)
        return np.ndarray(shape, np.uint8, self._pieces[start], within)


class _Process:
    """One of them."""

    def __init__(self, records: bytes, file: int):
        self._records, self._file = records, file
        self._start()

    def _start(self) -> None:
        try:
            ours, theirs = (_high(end.detach()) for end in socket.socketpair())
            program = _PROGRAM.format(path=_search_path(), module=__name__, connection=theirs, file=self._file,
                                      maker=os.getpid())
            self._connection, self._told = Connection(ours), False
            with Connection(theirs):
                self._child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.DEVNULL,
                                               pass_fds=(theirs, self._file), start_new_session=True)
        except OSError as error:
            raise InputError(f"a process that reads the data cannot be started ({error}); {_REMEDY}") from error
        self._stop = weakref.finalize(self, _stop, self._connection, self._child, os.getpid())

    def read(self, *request) -> np.ndarray | Exception:
        """The process's answer; where it ends instead, that of another one."""
        for tries_left in (1, 0):
            try:
                return self._ask(request)
            except (EOFError, OSError) as error:
                status = _status(self._child)
                self._stop()
                ended = f"a process that reads the data has ended with status {status}" + (
                    " (killed, perhaps for want of memory)" if status == -9 else "")
                if not tries_left:
                    raise InputError(f"{ended}, as the one before; {_REMEDY}") from error
                warnings.warn(f"{ended}; another one goes on", RuntimeWarning, stacklevel=3)
            except BaseException:  # or its answer would be taken for the next one, and others get what it writes to
                self._stop()
                raise

    def _ask(self, request: tuple) -> np.ndarray | Exception:
        if not self._stop.alive:
            self._start()
        if not self._told:  # not at its start: until it runs nobody waits for it
            self._connection.send_bytes(self._records)
            self._told = True
        self._connection.send(request)
        return self._connection.recv()


def _status(child: subprocess.Popen) -> int | None:
    """With which it has ended, or does so shortly."""
    try:
        return child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return None


def _stop(connection: Connection, child: subprocess.Popen, maker: int) -> None:
    connection.close()
    if os.getpid() == maker:  # not one that was forked from it
        child.kill()  # it only reads, and might be stopped, or wait for a disk
        child.wait()


def serve(connection: int, file: int, maker: int) -> None:
    """What such a process does until its maker is done or gone.

    Args:
        connection: descriptor of the socket to the maker.
        file: descriptor of the shared memory.
        maker: the maker's number.
    """
    with Connection(connection) as asked:
        try:
            _wait(asked, maker)
            reading = _Reading(asked.recv_bytes(), file)
            while True:
                _wait(asked, maker)
                asked.send(reading.answer(*asked.recv()))
        except (EOFError, OSError):
            pass


def _wait(asked: Connection, maker: int) -> None:
    """Until there is something to receive. A process forked from the maker keeps the socket open beyond its end."""
    while not asked.poll(_PATIENCE):
        if os.getppid() != maker:
            raise EOFError


class _Reading:
    def __init__(self, records: bytes, file: int):
        self._content, self._shared = records, _SharedMemory(file)

    @cached_property
    def _records(self) -> RecordSet:
        return pickle.loads(self._content)

    def answer(self, place: tuple[int, int, int], shape: tuple[int, ...], positions: np.ndarray,
               indices: np.ndarray) -> np.ndarray | Exception:
        try:
            return read_into(self._shared.array(place, shape), self._records, positions, indices)
        except Exception as error:
            if not isinstance(error, InputError):
                error.add_note(f"in a process that reads the data:\n{traceback.format_exc()}")
            return error


def _search_path() -> list[str]:
    """That of this process, whatever its folder is now, and with the package that runs here."""
    own = str(Path(cfaan_jax.__file__).absolute().parents[1])
    return [os.path.abspath(each) if each else own for each in sys.path if isinstance(each, str)] + [own]


def _memory_file() -> int:
    """The descriptor of an empty file that is in no folder, and in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        return _high(os.memfd_create("clips"))
    with tempfile.TemporaryFile() as file:
        return _high(os.dup(file.fileno()))


def _high(descriptor: int) -> int:
    """The same under a number that nobody takes for input, output or errors, where one of these is closed."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return high


def _whole_pages(size: int) -> int:
    return -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
