"""A coverage-guided campaign against everything that reads files or text of users.

    pip install atheris
    python -m benchmarks.robustness.fuzz --out=fuzz.json [--executions=1000000] [--targets=matlab,torch]

Every target of `fuzz_targets` runs in a process of its own. Whatever it raises but what it documents is
counted by its place, and the input that raised it first is kept in a folder beside --out; one that takes longer than
half a minute or more than 2 GiB ends its process and counts too. Exit status 1 if there was any. Atheris (libFuzzer for
Python) has packages for Python 3.11; nothing else here needs it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import command
from cfaan_jax.errors import shortened
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

_PACKAGES = ["cfaan_jax", "data_prep"]  # whose branches guide the mutations
_LIMITS = ["-rss_limit_mb=2048", "-timeout=30", "-max_len=4096"]
_EVERY = 1000  # executions between two writings of the counts


def main(arguments: list[str] | None = None) -> int:
    """Runs the campaign, or one target of it; returns the exit status."""
    parser = command("robustness.fuzz", __doc__)
    parser.add_argument("--executions", type=int, default=1_000_000,
                        help="executions of all targets together (%(default)s)")
    parser.add_argument("--targets", help="some of them, with commas; unset: all")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one target, in this process
    flags = parser.parse_args(arguments)
    if flags.only:
        _fuzz(flags.only, flags.executions, flags.out)
    from benchmarks.robustness.fuzz_targets import TARGETS
    chosen = flags.targets.split(",") if flags.targets else list(TARGETS)
    if unknown := [name for name in chosen if name not in TARGETS]:
        parser.error(f"--targets={flags.targets}: {unknown[0]!r} is none of {shortened(TARGETS)}")
    whole = sum(TARGETS[name].share for name in chosen)
    found = []
    for name in chosen:
        count = round(flags.executions * TARGETS[name].share / whole)
        out = flags.out.with_name(f"{flags.out.stem}-{name}.json").absolute()
        out.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-m", "benchmarks.robustness.fuzz", f"--out={out}",
                               f"--executions={count}", f"--only={name}"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        one = json.loads(out.read_text()) if out.exists() else {"target": name, "executions": 0, "raised": {}}
        if one["executions"] < count:
            one["raised"]["the process ended"] = done.stderr[-2000:]
        found.append(one)
        flags.out.write_text(json.dumps(found, indent=2) + "\n")
    rows = [[one["target"], f"{one['executions']:,}", f"{one.get('refused', 0):,}", f"{one.get('seconds', 0):.0f}",
             str(len(one["raised"]))] for one in found]
    show(f"{sum(one['executions'] for one in found):,} executions", ["target", "executions", "refused", "seconds",
                                                                     "kinds of uncaught exceptions"], rows)
    return 1 if any(one["raised"] for one in found) else 0


def _fuzz(name: str, executions: int, out: Path) -> None:
    """Runs one target; libFuzzer ends the process."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import atheris
    with atheris.instrument_imports(include=_PACKAGES):
        from benchmarks.robustness.fuzz_targets import TARGETS
        from cfaan_jax.errors import InputError
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    for each in ("corpus", "files"):
        (folder / each).mkdir()
    first, call = TARGETS[name].make(folder / "files")
    for number, data in enumerate(first):
        (folder / "corpus" / str(number)).write_bytes(data)
    kept = out.with_suffix("")
    counts = {"target": name, "executions": 0, "refused": 0, "raised": {}}
    began = time.monotonic()

    def one(data: bytes) -> None:
        try:
            call(data)
        except InputError:
            counts["refused"] += 1
        except Exception as error:  # what a campaign is for
            _note(counts["raised"], error, data, kept)
        counts["executions"] += 1
        if counts["executions"] % _EVERY == 0 or counts["executions"] >= executions:
            out.write_text(json.dumps(counts | {"seconds": time.monotonic() - began}))

    atheris.Setup([name, str(folder / "corpus"), f"-runs={executions + len(first) + 2}", *_LIMITS,
                   f"-artifact_prefix={folder}/", "-seed=1"], one)
    atheris.Fuzz()


def _note(raised: dict[str, str], error: Exception, data: bytes, folder: Path) -> None:
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
    if place not in raised:
        folder.mkdir(exist_ok=True)
        path = folder / hashlib.sha256(data).hexdigest()[:16]
        path.write_bytes(data)
        raised[place] = f"{str(error)[:200]} ({path.name})"


if __name__ == "__main__":
    run_command(main)
