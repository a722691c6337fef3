"""A long run of a tiny network in one process: memory, compilations and open files over its steps.

    python -m benchmarks.robustness.soak --out=soak.json [--steps=20000]

Training with 20 evaluations and checkpoints, in a temporary folder. The first quarter counts as warm-up; what follows
is looked at in ten parts, by their medians. No part may have more than 2 % more resident memory than the first, nothing
may be compiled, and no more files be open at the end. Exit status 1 otherwise.
"""

import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import jax

from benchmarks import command, tiny
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

_EVALUATIONS, _WARM, _PARTS = 20, 0.25, 10
_COMPILED = "/jax/core/compile/backend_compile_duration"


class _Sampler(threading.Thread):
    """Looks at this process every so often, until the steps are done."""

    def __init__(self, log: Path, total: int):
        super().__init__(daemon=True)
        self.samples: list[dict] = []
        self.compiled = 0
        self._log, self._total, self._ended = log, total, threading.Event()
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event: str, *_, **__) -> None:
        self.compiled += event == _COMPILED

    def run(self) -> None:
        seconds, steps = 1.0, 0
        while steps < self._total and not self._ended.wait(seconds):
            if (steps := self._steps()) > 0:
                self.samples.append({"step": steps, "bytes": _resident(), "files": len(os.listdir("/proc/self/fd")),
                                     "compiled": self.compiled})

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _steps(self) -> int:
        """Of the log, in which an evaluation has the number of the step before it."""
        lines = self._log.read_text().splitlines()[1:] if self._log.exists() else []
        return int(lines[-1].split(",")[0]) if lines else 0


def main(arguments: list[str] | None = None) -> int:
    parser = command("robustness.soak", __doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="training steps (%(default)s)")
    flags = parser.parse_args(arguments)
    from cfaan_jax import main as program
    from data_prep import build_tfrecords
    with tempfile.TemporaryDirectory() as folder:
        records, workdir = Path(folder, "records"), Path(folder, "run")
        build_tfrecords.main(tiny.data_words(Path(folder, "drawn"), records))
        each = max(1, flags.steps // _EVALUATIONS // 2)  # epochs; four identities, two in a batch
        words = tiny.train_words(records, workdir, train__epochs=each * _EVALUATIONS, train__evaluate_every=each,
                                 train__checkpoint_every=each)
        sampler = _Sampler(workdir / "metrics.csv", each * _EVALUATIONS * 2)
        began = time.monotonic()
        sampler.start()
        status = program.main(words)
        sampler.end()
    found = _judged(sampler.samples) | {"status": status, "seconds": round(time.monotonic() - began),
                                        "evaluations": _EVALUATIONS, "samples": sampler.samples}
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    show(f"{found['steps']:,} steps and {_EVALUATIONS} evaluations in {found['seconds']:,} s",
         ["", "after warm-up", "at the end"],
         [["resident memory, MiB", *(f"{found[name] / 2**20:.1f}" for name in ("bytes_warm", "bytes_end"))],
          ["most in any part, % above the first", "", f"{100 * found['growth']:.2f}"],
          *([label, *(f"{found[f'{name}_{when}']:.0f}" for when in ("warm", "end"))]
            for label, name in (("compilations", "compiled"), ("open files", "files")))])
    return 0 if found["flat"] and status == 0 else 1


def _judged(samples: list[dict]) -> dict:
    warm = [sample for sample in samples if sample["step"] >= _WARM * samples[-1]["step"]]
    length = max(1, len(warm) // _PARTS)  # a single sample may fall into an evaluation, or the writing of a checkpoint
    parts = [warm[start:start + length] for start in range(0, len(warm) - length + 1, length)]
    counts = {name: [statistics.median(sample[name] for sample in part) for part in parts]
              for name in ("bytes", "compiled", "files")}
    growth = max(counts["bytes"]) / counts["bytes"][0] - 1  # the system may take back memory, which is no fault
    ends = {f"{name}_{when}": values[place] for name, values in counts.items()
            for when, place in (("warm", 0), ("end", -1))}
    flat = growth <= 0.02 and ends["compiled_warm"] == ends["compiled_end"] and ends["files_end"] <= ends["files_warm"]
    return {"steps": samples[-1]["step"], "growth": growth, **ends, "flat": flat}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    run_command(main)
