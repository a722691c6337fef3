"""Matrices of integers from MATLAB files of level 5, such as those of MARS, and level 4.

SciPy writes such files for this project but does not read them: its reader can crash on a damaged file.
Source: MathWorks, "MAT-File Format". Level 5: an element is a tag (type, bytes) and its data; a variable is an element
of elements: flags, dimensions, name, values. Level 4: a variable is five integers, its name and its values.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError, reason, shortened
from cfaan_jax.runtime.files import read_regular_file

_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_NUMERIC_CLASSES = range(6, 16)  # double, single and the integers; others are text, cells, structures
_COMPLEX = 0x0800
_LEVEL_4 = ("<f8", "<f4", "<i4", "<i2", "<u2", "u1")
_LARGEST = 2**28  # bytes of an unpacked variable; tables of a million tracklets take a fifth of it


def read_integers(path: str | Path, key: str) -> np.ndarray:
    """The matrix stored under `key`, int64, in its stored shape.

    InputError if the file is missing, damaged, of another format or without it, or a value is not a whole number.
    """
    path, names = Path(path), []
    try:
        for name, values in _variables(read_regular_file(path)):
            names.append(name)
            if name == key:
                return _as_integers(path, key, values)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore the file") from None
    except (ValueError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: not a readable MATLAB file ({reason(error)}); restore the file") from error
    raise InputError(f"{path}: holds {shortened(names) or 'nothing'} instead of {key}; restore the file")


def _as_integers(path: Path, key: str, values: np.ndarray | None) -> np.ndarray:
    # Beyond 2**53 a double is a whole number, but not every whole number is a double.
    if values is None or not (np.abs(values.astype(np.float64)) <= 2**53).all() or (values != np.round(values)).any():
        raise InputError(f"{path}: {key} has values that are not whole numbers; restore the file")
    return values.astype(np.int64)


def _variables(content: bytes) -> Iterator[tuple[str, np.ndarray | None]]:
    """Names and values of the variables; None for values that are not real numbers."""
    if content[124:_HEADER] != b"\x00\x01IM":
        yield from _level_4(content)
        return
    for kind, data in _elements(content[_HEADER:]):
        if kind == _COMPRESSED:
            unpacker = zlib.decompressobj()
            data = unpacker.decompress(data, _LARGEST)
            if unpacker.unconsumed_tail:
                raise ValueError(f"a variable of more than {_LARGEST:,} bytes")
            kind, data = next(_elements(data), (0, b""))
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable belongs")
        yield _variable(data)


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and data of consecutive elements."""
    offset = 0
    while offset < len(content):
        kind, length = struct.unpack_from("<II", content, offset)
        start = offset + 8
        if kind >> 16:  # up to four bytes lie within the tag
            kind, length, start = kind & 0xFFFF, kind >> 16, offset + 4
            if length > 4:
                raise ValueError(f"{length} bytes within a tag, which has room for 4")
        if start + length > len(content):
            raise ValueError("cut short")
        yield kind, content[start:start + length]
        padding = 0 if kind == _COMPRESSED else -(start + length) % 8
        offset = start + length + padding


def _variable(data: bytes) -> tuple[str, np.ndarray | None]:
    elements = _elements(data)
    (_, flags), (_, dimensions), (_, name) = (next(elements, (0, b"")) for _ in range(3))
    flags, name = struct.unpack_from("<I", flags)[0], name.decode("latin-1")
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX:
        return name, None
    shape = np.frombuffer(dimensions, "<i4").tolist()
    kind, numbers = next(elements, (0, b""))
    if kind not in _NUMBERS:
        raise ValueError(f"numbers of type {kind}")
    return name, np.frombuffer(numbers, _NUMBERS[kind]).reshape(shape, order="F")


def _level_4(content: bytes) -> Iterator[tuple[str, np.ndarray | None]]:
    offset = 0
    while offset < len(content):
        kind, rows, columns, imaginary, length = struct.unpack_from("<5i", content, offset)
        precision, matrix = divmod(kind, 10)
        if not (0 <= precision < len(_LEVEL_4) and matrix in (0, 1, 2) and rows >= 0 and columns >= 0 and length > 0):
            raise ValueError("its header is not of level 4 or 5; save it with -v4, -v6 or -v7")
        start, numbers = offset + 20 + length, np.dtype(_LEVEL_4[precision])
        offset = start + rows * columns * numbers.itemsize * (2 if imaginary else 1)
        if offset > len(content):
            raise ValueError("cut short")
        name = content[start - length:start].rstrip(b"\0").decode("latin-1")
        values = np.frombuffer(content, numbers, rows * columns, start).reshape((rows, columns), order="F")
        yield name, None if imaginary or matrix else values
