"""Files that are complete or absent, never half there."""

import errno
import json
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, get_args, get_origin

import numpy as np

UNFINISHED = ".unfinished"  # ends the name of a file or folder that is being written
_MAX_NPZ_RATIO = 16  # unpacked bytes to packed: features and weights hardly shrink, indexes are not packed
OLDER = ".older"  # ends the name of a folder that is being replaced


@contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """Within this context an OSError names the file that is written; Python leaves it out where a write fails."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text; ValueError if it is not JSON, or nested too deeply to read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_types(record) -> None:
    """Raises ValueError for a dataclass, made from JSON, with a field that is not of its declared type."""
    for field in fields(record):
        types = get_args(field.type) if isinstance(field.type, UnionType) else (get_origin(field.type) or field.type,)
        if type(getattr(record, field.name)) not in types:
            raise ValueError(f"{field.name} is {getattr(record, field.name)!r}")


def read_regular_file(path: str | Path) -> bytes:
    """The bytes of a file; OSError where it cannot be read or is not a regular file."""
    check_regular_file(path)
    return Path(path).read_bytes()


def check_regular_file(path: str | Path) -> None:
    """Raises OSError for a pipe or a device, which may never end, also behind a symbolic link."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def check_unpacked_size(archive: zipfile.ZipFile, size: int, max_ratio: int) -> None:
    """Raises ValueError for a zip bomb: a file of `size` bytes that unpacks to more than `max_ratio` times as many."""
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max_ratio * size:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, from {size:,}")


def read_npz(file: str | Path | BinaryIO) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; OSError if it cannot be read, ValueError if it is not an .npz file or a zip bomb."""
    if isinstance(file, str | Path):
        check_regular_file(file)
        with open(file, "rb") as stream:
            return read_npz(stream)
    try:
        with zipfile.ZipFile(file) as archive:
            check_unpacked_size(archive, file.seek(0, os.SEEK_END), _MAX_NPZ_RATIO)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: _check_text(arrays[name], name) for name in arrays.files}
    # RuntimeError: encrypted, or packed in an unknown way.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError, OverflowError, TypeError,
            SyntaxError, struct.error) as error:
        raise ValueError(f"not an .npz file: {error}") from None


def _check_text(array: np.ndarray, name: str) -> np.ndarray:
    """Raises ValueError for text with surrogates or codes beyond Unicode: Python or a file cannot hold it."""
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.tobytes(), f"{array.dtype.byteorder}u4")
        if ((codes > 0x10FFFF) | (codes >> 11 == 0xD800 >> 11)).any():
            raise ValueError(f"{name} holds codes that are not characters")
    return array


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for writing that gets its name, and replaces an older one, when it is complete.

    When the block raises, nothing is left of it. `durable` waits until it is safely on the disk; without it thousands
    of small files are quick, and a power failure can take the latest ones back.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    try:
        with path_in_errors(path), open(unfinished, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the renaming outlasts a power failure, too
        finally:
            os.close(folder)


def write_atomic(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Writes a file, text as UTF-8, by `atomic_file`, and creates the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Opens an empty folder that gets its name, and replaces an older one, when all of it is written.

    When the block raises, nothing is left of it and the older one stays.
    """
    unfinished, older = (path.with_name(path.name + end) for end in (UNFINISHED, OLDER))
    if older.exists() and not path.exists():  # a process was killed between the two renamings below
        os.replace(older, path)
    for left_over in (unfinished, older):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with path_in_errors(path):
            yield unfinished
        if path.exists():
            os.replace(path, older)
        os.replace(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if older.exists() and not path.exists():
            os.replace(older, path)
        raise
    shutil.rmtree(older, ignore_errors=True)
