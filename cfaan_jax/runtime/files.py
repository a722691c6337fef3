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
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, get_args, get_origin

import numpy as np

UNFINISHED = ".unfinished"  # ends the name of a file or folder that is being written
_MOST_UNPACKED = 16  # times the size of an .npz: features and weights hardly shrink, indexes are not packed
OLDER = ".older"  # ends the name of a folder that is being replaced


@contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """Within this context an error of the machine names the file that is written, which Python leaves out."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; ValueError for what is none, also where it is nested too deeply to read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def check_types(record) -> None:
    """Raises ValueError for a dataclass, made of JSON, with a field of another type than it says."""
    for field in fields(record):
        kinds = get_args(field.type) if isinstance(field.type, UnionType) else (get_origin(field.type) or field.type,)
        if type(getattr(record, field.name)) not in kinds:
            raise ValueError(f"{field.name} is {getattr(record, field.name)!r}")


def read_regular_file(path: str | Path) -> bytes:
    """The bytes of a file; OSError as from `check_regular_file`."""
    check_regular_file(path)
    return Path(path).read_bytes()


def check_regular_file(path: str | Path) -> None:
    """OSError for a pipe or a device, which may never end, also at the other end of a link."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def check_unpacked_size(archive: zipfile.ZipFile, size: int, most: int) -> None:
    """ValueError for a zip file that unpacks to more than so many times its size in bytes.

    Entries that are packed, or share their bytes, can be larger than any memory together.
    """
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > most * size:
        raise ValueError(f"it unpacks to {unpacked:,} bytes, from {size:,}")


def read_npz(file: str | Path | BinaryIO) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; OSError where it cannot be read, ValueError where it is none or a zip bomb."""
    if isinstance(file, str | Path):
        check_regular_file(file)
    with open(file, "rb") if isinstance(file, str | Path) else nullcontext(file) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                check_unpacked_size(archive, stream.seek(0, os.SEEK_END), _MOST_UNPACKED)
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as arrays:
                return {name: _readable(arrays[name], name) for name in arrays.files}
        # RuntimeError: encrypted, or packed in an unknown way.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError, OverflowError, TypeError,
                SyntaxError, struct.error) as error:
            raise ValueError(f"not an .npz file: {error}") from None


def _readable(array: np.ndarray, name: str) -> np.ndarray:
    """ValueError for text of numbers that are no characters, or surrogates: Python cannot hold it, or no file."""
    if array.dtype.kind == "U":
        codes = np.frombuffer(array.tobytes(), f"{array.dtype.byteorder}u4")
        if ((codes > 0x10FFFF) | (codes >> 11 == 0xD800 >> 11)).any():
            raise ValueError(f"{name} holds what are no characters")
    return array


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that gets its name, and takes the place of an older one, when it is safely on the disk.

    When the block raises, nothing is left of it.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with path_in_errors(path), open(unfinished, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_atomic(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Writes a file that has its name only when it is complete, and the folders above it.

    Args:
        path: an older file there is replaced.
        content: text becomes UTF-8.
        durable: wait until it is safely on the disk; without it thousands of small files are quick, and a power
            failure can take the latest ones back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    if durable:
        with atomic_file(path) as file:
            file.write(content)
        return
    unfinished = path.with_name(path.name + UNFINISHED)
    with path_in_errors(path):
        unfinished.write_bytes(content)
    os.replace(unfinished, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Opens an empty folder that gets its name, and takes the place of an older one, when all of it is written.

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


def _sync_folder(folder: Path) -> None:
    """Without this a power failure can take back the renaming."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
