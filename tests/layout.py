"""One run on the devices that this process and those it joins have: what test_layouts.py starts.

    python -m tests.layout RECORDS ROOT NAME OTHER

trains in ROOT/NAME, keeping the folder as it is at step 4 in ROOT/NAME-4; several processes extract features to
ROOT/NAME-features and export to ROOT/NAME-export; then goes on in ROOT/NAME-from-OTHER from what another layout kept.
"""

import shutil
import sys
import time
from pathlib import Path

import jax

from cfaan_jax.deploy import export, extract
from cfaan_jax.experiment.checkpoint import Checkpoints, restore_model
from cfaan_jax.runtime import distributed
from cfaan_jax.runtime.interrupt import StopSignal
from cfaan_jax.train import loop
from tests.train.test_loop import tiny

KEPT = 4  # steps
TOTAL = 8


class KeepingCheckpoints(Checkpoints):
    """Keeps a copy of the folder with the checkpoint of step `KEPT`."""

    def __init__(self, workdir: Path):
        super().__init__(workdir)
        self._workdir = workdir

    def save(self, kind, progress, **trees):
        super().save(kind, progress, **trees)
        self.wait()
        if (kind, progress.step) == ("last", KEPT):
            copy = self._workdir.with_name(f"{self._workdir.name}-{KEPT}")
            distributed.run_in_first_process(lambda: keep(self._workdir, copy))


def keep(folder: Path, copy: Path) -> None:
    shutil.copytree(folder, copy.with_suffix(".unfinished"), ignore=shutil.ignore_patterns("tensorboard"))
    copy.with_suffix(".unfinished").rename(copy)


def wait_for(folder: Path) -> None:
    deadline = time.monotonic() + 600
    while not folder.exists():
        assert time.monotonic() < deadline, folder
        time.sleep(0.05)


def main(records: str, root: str, name: str, other: str) -> None:
    distributed.join()
    config = tiny(records)
    # The periodic evaluation, and so the checkpoint "best", is that of several processes alone: it takes time.
    config.train.update(epochs=4, checkpoint_every=2, evaluate_every=4 if jax.process_count() > 1 else 0,
                        evaluate_clips="test_0")
    config.data.on_bad_record = "skip"
    config.eval.update(clips="test_0", protocols=("mars",), report_lists=1)
    loop.Checkpoints = KeepingCheckpoints
    loop.train(config, Path(root, name))
    if jax.process_count() > 1:
        model, _ = restore_model(Path(root, name))
        print(f"features: {extract.extract(model, config, records, Path(root, f'{name}-features'), 'last')}")
        print(f"exported: {export.write(model, config, Path(root, f'{name}-export'), 'last')}")
    kept, resumed = Path(root, f"{other}-{KEPT}"), Path(root, f"{name}-from-{other}")
    distributed.run_in_first_process(lambda: (wait_for(kept), shutil.copytree(kept, resumed)))
    config.train.evaluate_every = 0
    with StopSignal(shared=jax.process_count() > 1) as stop, Checkpoints(resumed) as checkpoints:
        loop.train_steps(config, resumed, loop.training_sampler(config), checkpoints, stop, TOTAL)


if __name__ == "__main__":
    main(*sys.argv[1:])
