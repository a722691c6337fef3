"""A folder of records on a disk, or in object storage (`gs://`, `s3://`, ...) by fsspec. Reads only."""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import read_regular_file


class MissingFile(InputError):
    """A file or folder does not exist."""


class LocalFolder:
    """A folder on a disk, whose files stay open; safe to use from several threads.

    All that read raise `MissingFile` where nothing is there, and InputError where it cannot be read. Files are not
    memory-mapped: a mapped file that is cut short, or whose disk goes away, would kill the process without a message.
    """

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()
        self._descriptors: dict[str, int] = {}

    def path(self, name: str) -> Path:
        """The path of a file."""
        return self._path / name

    def sizes(self) -> dict[str, int]:
        """The sizes of all files in bytes, by name."""
        with translate_errors(self._path):
            return {path.name: path.stat().st_size for path in self._path.iterdir() if path.is_file()}

    def read(self, name: str) -> bytes:
        """A whole file."""
        with translate_errors(self.path(name)):
            return read_regular_file(self.path(name))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Bytes from start to end of a file."""
        with self._lock:
            if name not in self._descriptors:
                with translate_errors(self.path(name)):
                    self._descriptors[name] = os.open(self.path(name), os.O_RDONLY)
                weakref.finalize(self, os.close, self._descriptors[name])
        try:  # not `translate_errors`: every frame comes through here
            content = os.pread(self._descriptors[name], end - start, start)
        except OSError as error:
            raise _unreadable(self.path(name), error) from error
        if len(content) < end - start:
            raise InputError(f"{self.path(name)} ends before byte {end:,}: it was cut short; restore it, then start "
                             "the same command again")
        return content


class ObjectFolder:
    """A folder that fsspec reads; each call is one request. Its methods are those of `LocalFolder`."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        try:
            self._files, self._path = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError) as error:
            raise InputError(f"{url}: {error}; install the package that reads such addresses (gcsfs for gs://, s3fs "
                             "for s3://), or correct the address") from None

    def path(self, name: str) -> str:
        return f"{self._url}/{name}"

    def sizes(self) -> dict[str, int]:
        with translate_errors(self._url):
            return {entry["name"].rpartition("/")[2]: entry["size"]
                    for entry in self._files.ls(self._path, detail=True) if entry["type"] == "file"}

    def read(self, name: str) -> bytes:
        return self.read_range(name, None, None)

    def read_range(self, name: str, start: int | None, end: int | None) -> bytes:
        with translate_errors(self.path(name)):
            return self._files.cat_file(f"{self._path}/{name}", start=start, end=end)


def open_folder(directory: str | Path) -> LocalFolder | ObjectFolder:
    """The folder of that path or address; nothing is read yet."""
    return ObjectFolder(str(directory)) if is_address(directory) else LocalFolder(Path(directory))


def is_address(directory: str | Path) -> bool:
    """Whether it is an address in object storage, such as gs://bucket/records; pathlib would spoil it."""
    return "://" in str(directory)


@contextmanager
def translate_errors(path: str | Path) -> Iterator[None]:
    """Raises every error as InputError that names the path."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFile(f"{path} is missing; restore it, or correct the path") from error
    except Exception as error:  # each package under fsspec has its own errors
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read ({type(error).__name__}: {error}); check its path, permissions and "
                      "network, then start the same command again")
