"""SIGKILL at random moments, then the same command until it is done: its outcome must be that of an undisturbed run.

    python -m benchmarks.robustness.kill --out=kill.json [--kills=50] [--seed=0] [--commands=training,evaluation]

The commands: drawing and packing eight people; training a tiny network with evaluations and a checkpoint after every
epoch; scoring it. Every start is a process forked from one that has imported the program, in which the command's own
`main` runs. Every other kill waits until something lies there under the name of an unfinished file, folder or
checkpoint, for at most as long as an undisturbed run takes; the others come at a random moment of that time.

Compared are bytes of drawn images and records, bits of all arrays in the checkpoints, the figures of all steps,
results.json, features and reports. Exit status 1 on a difference.
"""

import csv
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import command, names, tiny
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.files import UNFINISHED
from cfaan_jax.runtime.text_tables import show

_EPOCHS = 4
_SHARES = {"data preparation": 0.3, "training": 0.5, "evaluation": 0.2}  # of the kills
_MOST_IN_A_ROW = 5  # kills before a command may end
_UNFINISHED = (f"**/*{UNFINISHED}", "**/*.orbax-checkpoint-tmp*")
_MEASURED = ("summary.json",)  # files that hold times


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        outputs: folders that it writes.
        run: does what the command does; returns its exit status.
        outcome: what must not depend on kills, by name.
    """

    name: str
    outputs: Sequence[Path]
    run: Callable[[], int]
    outcome: Callable[[], dict[str, str]]


def main(arguments: list[str] | None = None) -> int:
    parser = command("robustness.kill", __doc__)
    parser.add_argument("--kills", type=int, default=50, help="kills in all (%(default)s)")
    parser.add_argument("--commands", type=names(_SHARES), default=tuple(_SHARES),
                        help="which are killed, with commas; the others run undisturbed (unset: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of their moments (%(default)s)")
    flags = parser.parse_args(arguments)
    rng = np.random.default_rng(flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder))
        found = []
        whole = sum(_SHARES[name] for name in flags.commands)
        for stage in _stages(Path(folder)):
            kills = round(flags.kills * _SHARES[stage.name] / whole) if stage.name in flags.commands else 0
            found.append(_judge(stage, kills, Path(folder), rng))
            flags.out.write_text(json.dumps(found, indent=2) + "\n")
    show(f"{sum(one['kills'] for one in found)} kills", ["command", "kills", "inside a write", "runs to the end",
                                                         "things compared", "differences"],
         [[one["command"], *(str(one[name]) for name in ("kills", "inside_a_write", "finished", "compared")),
           str(len(one["differences"]))] for one in found])
    return 1 if any(one["differences"] for one in found) else 0


def _prepare(folder: Path) -> None:
    """Imports the program, without a device, and lets restarts find what was compiled."""
    import jax

    import cfaan_jax.main  # noqa: F401
    import data_prep.build_tfrecords  # noqa: F401
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _stages(folder: Path) -> Iterator[Stage]:
    from cfaan_jax import main as program
    from data_prep import build_tfrecords
    drawn, records, workdir = (folder / name for name in ("drawn", "records", "run"))
    words = tiny.train_words(records, workdir, train__epochs=_EPOCHS, train__checkpoint_every=1,
                             train__evaluate_every=2, eval__report_lists=1)

    def scored() -> dict[str, str]:
        return _files(workdir, "report/**/*", "features-*.npz", "results.json")

    yield Stage("data preparation", (drawn, records),
                lambda: build_tfrecords.main(tiny.data_words(drawn, records)),
                lambda: _files(drawn, "**/*") | _files(records, "**/*"))
    yield Stage("training", (workdir,), lambda: program.main(words),
                lambda: scored() | _arrays(workdir) | _figures(workdir / "metrics.csv"))
    yield Stage("evaluation", (workdir / "report", workdir / "results.json"),
                lambda: program.main([*words, "--mode=evaluate", "--config.eval.weights=best",
                                      "--config.eval.protocols=all"]), scored)


def _judge(stage: Stage, kills: int, folder: Path, rng: np.random.Generator) -> dict:
    """Runs a command undisturbed, then with kills until there were enough."""
    log = folder / "log"
    _clear(stage)  # the command before may have written there: training scores, too
    _expect(_wait(_fork(stage.run, log)), log)
    wanted, seconds = _outcome(stage, folder), 0.0
    if kills:  # the first one compiled, which later ones need not do
        _clear(stage)
        began = time.monotonic()
        _expect(_wait(_fork(stage.run, log)), log)
        seconds = time.monotonic() - began
    counts = {"command": stage.name, "seconds": seconds, "kills": 0, "inside_a_write": 0, "finished": 0,
              "compared": len(wanted), "differences": []}
    while counts["kills"] < kills:
        _clear(stage)
        for _ in range(_MOST_IN_A_ROW):
            waits = counts["kills"] % 2 == 1
            if not _killed(stage, log, waits, rng.uniform(0, seconds), folder, counts):
                break
        else:
            _expect(_wait(_fork(stage.run, log)), log)
        counts["finished"] += 1
        found = _outcome(stage, folder)
        counts["differences"] += sorted(name for name in found.keys() | wanted.keys()
                                        if found.get(name) != wanted.get(name))
        print(f"{stage.name}: {counts['kills']} kills, {len(counts['differences'])} differences", flush=True)
    return counts


def _clear(stage: Stage) -> None:
    for path in stage.outputs:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _killed(stage: Stage, log: Path, waits: bool, seconds: float, folder: Path, counts: dict) -> bool:
    """Starts a command and kills it; False if it was done before that."""
    process, began = _fork(stage.run, log), time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            _expect(os.waitstatus_to_exitcode(status), log)
            return False
        late = time.monotonic() - began > seconds
        if late or waits and _writing(folder):
            os.kill(process, signal.SIGKILL)
            if _wait(process) == -signal.SIGKILL:
                counts["kills"] += 1
                counts["inside_a_write"] += _writing(folder)
                return True
            return False
        time.sleep(0.005)


def _writing(folder: Path) -> bool:
    return any(path for pattern in _UNFINISHED for path in folder.glob(pattern))


def _fork(work: Callable[[], int], log: Path) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _expect(status: int, log: Path) -> None:
    if status:
        raise SystemExit(f"the command ended with status {status}:\n{log.read_text()[-4000:]}")


def _outcome(stage: Stage, folder: Path) -> dict[str, str]:
    """Looked at in a process of its own: this one must stay without a device to be forked."""
    path = folder / "outcome.json"

    def look() -> int:
        path.write_text(json.dumps(stage.outcome()))
        return 0

    _expect(_wait(_fork(look, folder / "log")), folder / "log")
    return json.loads(path.read_text())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(folder: Path, *patterns: str) -> dict[str, str]:
    """Digests of files by name."""
    paths = {path for pattern in patterns for path in folder.glob(pattern)}
    return {str(path.relative_to(folder.parent)): _digest(path.read_bytes()) for path in sorted(paths)
            if path.is_file() and path.name not in _MEASURED}


def _arrays(workdir: Path) -> dict[str, str]:
    """Digests of all arrays in the checkpoints, and how far these are."""
    import orbax.checkpoint as ocp

    from cfaan_jax.experiment.checkpoint import Checkpoints
    found = {}
    with Checkpoints(workdir, read_only=True) as checkpoints, ocp.StandardCheckpointer() as reader:
        for kind in ("last", "best"):
            folder = workdir / "checkpoints" / kind / str(checkpoints.step(kind))
            found[f"{kind}/progress"] = str(checkpoints.progress(kind))
            for item in ("model", "optimizer"):
                if (folder / item).exists():
                    found |= {f"{kind}/{item}/{name}": _digest(np.asarray(value).tobytes())
                              for name, value in reader.restore(folder / item).items()}
    return found


def _figures(path: Path) -> dict[str, str]:
    """All rows of metrics.csv but what they say of time and memory."""
    from cfaan_jax.experiment.metric_log import METERS
    with path.open(newline="") as file:
        return {f"row {number}": json.dumps({name: value for name, value in row.items() if name not in METERS})
                for number, row in enumerate(csv.DictReader(file))}


if __name__ == "__main__":
    run_command(main)
