"""Where a folder of records lies: on a disk, or on object storage (`gs://`, `s3://`, ...) by fsspec. Reads only."""

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import read_regular_file


class Missing(InputError):
    """A file or folder that is not there."""


class LocalFolder:
    """A folder on a disk, whose files stay open; safe to use from several threads.

    Everything that reads raises `Missing` where nothing is, and InputError for what cannot be read. Nothing is mapped
    into memory: where a file is cut short or its disk goes away, that would end the process without a word.
    """

    near = True  # reading a part again costs little

    def __init__(self, path: Path):
        self._path, self._open, self._lock = path, {}, threading.Lock()

    def place(self, name: str) -> Path:
        """The path of a file."""
        return self._path / name

    def sizes(self) -> dict[str, int]:
        """The sizes of all files by their names, in bytes."""
        with _told(self._path):
            return {path.name: path.stat().st_size for path in self._path.iterdir() if path.is_file()}

    def read(self, name: str) -> bytes:
        """A whole file."""
        with _told(self.place(name)):
            return read_regular_file(self.place(name))

    def part(self, name: str, start: int, end: int) -> bytes:
        """Bytes from start to end of a file."""
        if name not in self._open:
            self._open_once(name)
        try:  # not `_told`, nor a path before there is an error: this is done for every frame
            found = os.pread(self._open[name], end - start, start)
        except OSError as error:
            raise _unreadable(self.place(name), error) from error
        if len(found) < end - start:
            raise InputError(f"{self.place(name)} ends before byte {end:,}: it was cut short; restore it, then start "
                             "the same command again")
        return found

    def _open_once(self, name: str) -> None:
        with self._lock, _told(self.place(name)):
            if name not in self._open:
                self._open[name] = os.open(self.place(name), os.O_RDONLY)
                weakref.finalize(self, os.close, self._open[name])


class ObjectFolder:
    """A folder that fsspec reads; each call is one request. Its methods are those of `LocalFolder`."""

    near = False

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        try:
            self._files, self._path = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError) as error:
            raise InputError(f"{url}: {error}; install the package that reads such addresses (gcsfs for gs://, s3fs "
                             "for s3://), or correct the address") from None

    def place(self, name: str) -> str:
        return f"{self._url}/{name}"

    def sizes(self) -> dict[str, int]:
        with _told(self._url):
            return {each["name"].rpartition("/")[2]: each["size"]
                    for each in self._files.ls(self._path, detail=True) if each["type"] == "file"}

    def read(self, name: str) -> bytes:
        with _told(self.place(name)):
            return self._files.cat_file(f"{self._path}/{name}")

    def part(self, name: str, start: int, end: int) -> bytes:
        with _told(self.place(name)):
            return self._files.cat_file(f"{self._path}/{name}", start=int(start), end=int(end))


def opened(directory: str | Path) -> LocalFolder | ObjectFolder:
    """The folder of that path or address; nothing is read yet."""
    return ObjectFolder(str(directory)) if is_address(directory) else LocalFolder(Path(directory))


def is_address(directory: str | Path) -> bool:
    """Whether it is one of object storage, as in gs://bucket/records; pathlib would spoil it."""
    return "://" in str(directory)


@contextmanager
def _told(place: str | Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Missing(f"{place} is missing; restore it, or correct the path") from error
    except Exception as error:  # each package behind fsspec has errors of its own
        raise _unreadable(place, error) from error


def _unreadable(place: str | Path, error: Exception) -> InputError:
    return InputError(f"{place} cannot be read ({type(error).__name__}: {error}); see to its path, permissions and "
                      "network, then start the same command again")


class Recent:
    """The latest results of a function, each worked out once, also where several threads want it at a time.

    Args:
        work: of an integer.
        kept: how many results.
    """

    def __init__(self, work: Callable[[int], bytes], kept: int):
        self._work, self._kept, self._lock = work, kept, threading.Lock()
        self._results: OrderedDict[int, tuple[threading.Lock, list[bytes]]] = OrderedDict()

    def __call__(self, i: int) -> bytes:
        with self._lock:
            lock, result = self._results.setdefault(i, (threading.Lock(), []))
            self._results.move_to_end(i)
            if len(self._results) > self._kept:
                self._results.popitem(last=False)
        with lock:
            if not result:
                result.append(self._work(i))
        return result[0]
