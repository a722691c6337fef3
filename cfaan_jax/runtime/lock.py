"""One process at a time in a folder.

The kernel holds the lock (flock), so that a crash ends it and a process that later gets the same number holds nothing.
The file says who holds it. On a disk that several machines share the kernel's lock may reach one machine only;
therefore what another machine left is believed until somebody removes it.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import parse_json

# Names of the locks, by what is done in the folder.
BUILDING, TRAINING, EVALUATION = ".building.lock", ".training.lock", ".evaluation.lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # one kernel, from its start to its end


def path_for(folder: Path) -> Path:
    """The lock of a folder that is written as a whole, and so holds none itself."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Holds a lock for as long as the block runs.

    Args:
        path: the file to be; its folder is made if it is not there. It is gone afterwards, and so is a folder that was
            made for it, if nothing else was put there.
        doing: what the holder does in that folder, for whoever comes second.

    Raises:
        InputError: another process holds it, or one of another machine may hold it; named with its host and number.
            Or no lock can be had there.
    """
    made = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquired(path, doing)
    except OSError as error:  # a file in its place, no permission, a full disk, a file system without locks
        raise InputError(f"{path.parent}: cannot be locked for one process ({error.strerror}); it must be a folder "
                         "in which you may write; free it, or give another folder") from error
    try:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if made:
                _remove_if_empty(path.parent)
    finally:
        os.close(descriptor)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _acquired(path: Path, doing: str) -> int:
    """A locked descriptor of the file that has this name now: the one that was opened may be gone once it is locked."""
    while True:
        if path.exists() and not path.is_file():
            raise OSError(errno.EEXIST, "something that is no file has the name of the lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                _refuse_other_machine(path, _read(path))
                _sign(descriptor, doing)
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            holder = _read(path)
            raise InputError(f"{path.parent}: {_named(holder)} works here; wait for it, stop it, or give another "
                             "folder") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _sign(descriptor: int, doing: str) -> None:
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "boot": _boot(), "doing": doing,
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(mine).encode(), 0)


def _refuse_other_machine(path: Path, holder: dict) -> None:
    """What a crash on this machine left is nobody's: the kernel gave the lock. Of other machines it knows nothing."""
    if holder and holder.get("host") != socket.gethostname() and holder.get("boot") != _boot():
        raise InputError(f"{path.parent}: {_named(holder)} works here, or was ended without notice; if it no longer "
                         f"runs, remove the file {path}, otherwise wait for it or give another folder")


def _read(path: Path) -> dict:
    """Who wrote the file; empty where nobody did, or is about to."""
    try:
        content = parse_json(path.read_bytes())
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def _named(holder: dict) -> str:
    return (f"process {holder.get('pid', '?')} on {holder.get('host', 'this machine')} "
            f"({holder.get('doing', 'starting')}, since {holder.get('since', 'just now')})")


def _boot() -> str:
    return _BOOT.read_text().strip() if _BOOT.exists() else socket.gethostname()
