"""What a training run ran in: `<workdir>/environment.json` gets an entry with every start."""

import json
import shlex
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import jax

from cfaan_jax.errors import InputError, reason
from cfaan_jax.runtime.files import parse_json, write_atomic

FILE = "environment.json"


def note(workdir: str | Path, seed: int) -> None:
    """Appends the environment of this process to the list in the folder; InputError if the file is damaged."""
    path = Path(workdir) / FILE
    try:
        starts = parse_json(path.read_bytes()) if path.exists() else []
        if not isinstance(starts, list):
            raise ValueError("not a list")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a list of starts ({reason(error)}); restore or delete it") from None
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"), "command": shlex.join(sys.orig_argv), "seed": seed,
        "python": sys.version.partition(" ")[0], "backend": jax.default_backend(),
        "devices": dict(Counter(device.device_kind for device in jax.devices())), "processes": jax.process_count(),
        "git": git_state(Path(__file__)),
        "packages": dict(sorted((package.name, package.version) for package in distributions()))}
    write_atomic(path, json.dumps([*starts, start], indent=2) + "\n")


def git_state(source: Path) -> dict | None:
    """Commit and changed files of the repository that tracks a source file; None if none does, or git is missing."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", source.parent, *arguments], check=True, capture_output=True, text=True,
                              timeout=60).stdout

    try:
        git("ls-files", "--error-unmatch", source.name)
        return {"commit": git("rev-parse", "HEAD").strip(), "changed": git("status", "--porcelain").splitlines()}
    except (OSError, subprocess.SubprocessError):
        return None
