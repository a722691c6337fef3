"""Clips that processes of their own read, into memory that they share with this one.

Threads of one process wait for each other whenever they work in Python; processes do not.
"""

import math
import mmap
import multiprocessing
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import traceback
import weakref
from multiprocessing.connection import Connection

import numpy as np

from cfaan_jax.data.reading import Memory, read_into
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError

_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve({connection}, {file})"
_SHIFT = 16  # bytes: images that begin at a multiple of 32 libjpeg-turbo writes past the cache, a tenth slower


class ReadingProcesses:
    """As `reading.ClipReader`, by processes that this one starts; safe to use from several threads.

    They end with this object, and also when this process ends in whatever way. Ctrl-C does not reach them.

    Args:
        records: each process opens them again.
        count: how many processes.
    """

    def __init__(self, records: RecordSet, count: int):
        self._file = _memory_file()
        self._memory, self._places = Memory(self._fresh, kept=sys.maxsize), {}
        self._idle = queue.SimpleQueue()
        content = pickle.dumps(records)
        for _ in range(count):
            self._idle.put(_Process(content, self._file.fileno()))

    def __call__(self, positions: np.ndarray, indices: np.ndarray,
                 image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """As `reading.ClipReader`; waits until a process is free.

        Raises:
            InputError: what reading raises, or the process has ended.
        """
        frames = self._memory.take((*indices.shape, *image_size, 3))
        process = self._idle.get()
        try:
            return frames, process.read(self._places[frames.ctypes.data], frames.shape, positions, indices)
        finally:
            self._idle.put(process)

    def _fresh(self, shape: tuple[int, ...]) -> np.ndarray:
        place = os.fstat(self._file.fileno()).st_size
        pages = -(-(math.prod(shape) + _SHIFT) // mmap.ALLOCATIONGRANULARITY)
        os.ftruncate(self._file.fileno(), place + pages * mmap.ALLOCATIONGRANULARITY)
        frames = _mapped(self._file.fileno(), place, shape)
        self._places[frames.ctypes.data] = place
        return frames


class _Process:
    def __init__(self, records: bytes, file: int):
        self._records = records  # sent when it is first used: until then it starts, and nobody waits for it
        self._connection, theirs = multiprocessing.Pipe()
        program = _PROGRAM.format(path=sys.path, module=__name__, connection=theirs.fileno(), file=file)
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.DEVNULL,
                                             pass_fds=(theirs.fileno(), file), start_new_session=True)
        weakref.finalize(self, _end, self._connection, self._process)

    def read(self, *request) -> np.ndarray:
        try:
            if self._records:
                self._connection.send_bytes(self._records)
                self._records = b""
            self._connection.send(request)
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise InputError(f"a process that reads the data has ended with status {self._process.wait()} (-9: killed, "
                             "perhaps for want of memory); start again, with fewer of them (--config.data.workers) or "
                             "with threads instead (--config.data.processes=False)") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _end(connection: Connection, process: subprocess.Popen) -> None:
    connection.close()
    process.wait()


def serve(connection: int, file: int) -> None:
    """What such a process does until its maker is done or gone, given the descriptors of their pipe and memory."""
    with Connection(connection) as maker:
        try:
            records, frames = pickle.loads(maker.recv_bytes()), {}
            while True:
                place, shape, positions, indices = maker.recv()
                if place not in frames:
                    frames[place] = _mapped(file, place, shape)
                maker.send(_answer(frames[place], records, positions, indices))
        except (EOFError, ConnectionError):
            pass


def _answer(frames: np.ndarray, records: RecordSet, positions: np.ndarray,
            indices: np.ndarray) -> np.ndarray | Exception:
    try:
        return read_into(frames, records, positions, indices)
    except Exception as error:
        if not isinstance(error, InputError):
            error.add_note(f"in a process that reads the data:\n{traceback.format_exc()}")
        return error


def _memory_file():
    """An empty file that is in no folder, and in memory where the system can do that."""
    return open(os.memfd_create("clips"), "r+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


def _mapped(file: int, place: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.ndarray(shape, np.uint8, mmap.mmap(file, math.prod(shape) + _SHIFT, offset=place), _SHIFT)
