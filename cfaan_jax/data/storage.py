"""Where a folder of records lies: on a disk, or on object storage (`gs://`, `s3://`, ...) by fsspec. Reads only."""

import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from cfaan_jax.errors import InputError
from cfaan_jax.files import content_of


class Missing(InputError):
    """A file or folder that is not there."""


class LocalFolder:
    """A folder on a disk, whose files are mapped into memory; safe to use from several threads.

    Everything that reads raises `Missing` where nothing is, and InputError for what cannot be read.
    """

    mapped = True  # reading a part again costs nothing

    def __init__(self, path: Path):
        self._path, self._maps, self._lock = path, {}, threading.Lock()

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
            return content_of(self.place(name))

    def part(self, name: str, start: int, end: int) -> memoryview:
        """Bytes from start to end, not copied; fewer if the file ends before."""
        if name not in self._maps:
            self._map(name)
        return self._maps[name][start:end]

    def _map(self, name: str) -> None:
        with self._lock, _told(self.place(name)), open(self.place(name), "rb") as file:
            self._maps.setdefault(name, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


class ObjectFolder:
    """A folder that fsspec reads; each call is one request. Its methods are those of `LocalFolder`."""

    mapped = False

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
        raise InputError(f"{place} cannot be read ({type(error).__name__}: {error}); see to its path, permissions and "
                         "network, then start the same command again") from error


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
