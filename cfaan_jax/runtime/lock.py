"""One process at a time in a folder.

The kernel holds the lock (flock, by way of filelock), so a crash ends it, and a process that later gets the same number
holds nothing. The file says who holds it. On a disk that several machines share the kernel's lock may reach one machine
only; therefore the note of another machine counts until somebody removes it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.files import check_regular_file, parse_json

# Names of the locks, by what is done in the folder.
BUILDING, TRAINING, EVALUATION = ".building.lock", ".training.lock", ".evaluation.lock"
_PATIENCE = 0.2  # seconds: another process may be about to remove the file, or to write its note
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # one kernel, from its start to its end


def path_for(folder: Path) -> Path:
    """The lock of a folder that is replaced as a whole, and so cannot contain one."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Holds a lock file for as long as the block runs; `doing` says to a second process what the holder does there.

    A missing folder is created. Afterwards the file is removed, and so is that folder, if nothing else lies there.

    Raises:
        InputError: another process holds the lock, or one of another machine may hold it, named with host and number;
            or the folder does not allow locks.
    """
    creates_folder = not path.parent.exists()
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                check_regular_file(path)
            stack.enter_context(FileLock(path, timeout=_PATIENCE, fallback_to_soft=False))
            _refuse_other_machine(path)
            path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "boot": _boot(),
                                        "doing": doing, "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}))
        except Timeout:
            raise InputError(f"{path.parent}: {_holder(_read(path))} works here; wait for it, stop it, or give another "
                             "folder") from None
        except OSError as error:  # a file in its place, no permission, a full disk, a file system without locks
            raise InputError(f"{path.parent}: cannot be locked for one process ({error.strerror}); it must be a folder "
                             "in which you may write; free it, or give another folder") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if creates_folder:
                with suppress(OSError):  # not empty
                    path.parent.rmdir()


def _refuse_other_machine(path: Path) -> None:
    """A note of this machine is left by a crash, since the kernel gave the lock; the kernel knows no other machines."""
    note = _read(path)
    if note and note.get("host") != socket.gethostname() and note.get("boot") != _boot():
        raise InputError(f"{path.parent}: {_holder(note)} works here, or ended without notice; if it no longer runs, "
                         f"remove the file {path}, otherwise wait for it or give another folder")


def _read(path: Path) -> dict:
    """The note in a lock file; empty where there is none."""
    try:
        note = parse_json(path.read_bytes())
        return note if isinstance(note, dict) else {}
    except (OSError, ValueError):
        return {}


def _holder(note: dict) -> str:
    return (f"process {note.get('pid', '?')} on {note.get('host', 'this machine')} "
            f"({note.get('doing', 'starting')}, since {note.get('since', 'just now')})")


def _boot() -> str:
    return _BOOT.read_text().strip() if _BOOT.exists() else socket.gethostname()
