"""Checkpoints of a training run: `last`, to resume from, and `best`, by the mAP of the periodic evaluation."""

import errno
import os
import re
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from absl import logging
from flax import nnx
from ml_collections import ConfigDict

from cfaan_jax.errors import InputError
from cfaan_jax.experiment.config import create_model, load_config
from cfaan_jax.experiment.fields import CHECKPOINT_KINDS, check_fields
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import distributed
from cfaan_jax.runtime.files import path_in_errors

_PROGRESS = "standing"  # the name of the progress on disk
_SMALL_FILES = 4 << 20  # bytes of a checkpoint beside its arrays

# Orbax warns of every folder that is opened read-only, which is what was asked for.
logging.get_absl_logger().addFilter(
    lambda record: not any(words in record.getMessage() for words in ("read only=", "read_only=True")))


@dataclass
class TrainingProgress:
    """How far a run is, beside its arrays."""

    step: int  # finished training steps
    num_classes: int  # identities of the training split
    evaluated: int = 0  # the step of the latest finished periodic evaluation, 0 before the first
    best: float = -1.0  # the highest mAP so far, -1 before the first


class Checkpoints:
    """The checkpoints in `<workdir>/checkpoints`, one of each kind.

    A checkpoint gets its final name when it is complete, and its predecessor is deleted afterwards. Whenever the
    process ends, the latest complete one is there. `last` holds the network, the optimiser's state and the progress;
    `best` lacks the optimiser's state. With read_only=True nothing changes in the folder, since another process may be
    training there.
    """

    def __init__(self, workdir: str | Path, read_only: bool = False):
        options = ocp.CheckpointManagerOptions(max_to_keep=None if read_only else 1, create=not read_only,
                                               enable_async_checkpointing=not read_only, read_only=read_only)
        root = Path(workdir).absolute() / "checkpoints"
        if not read_only and jax.process_index() == 0:
            for path in filter(ocp.utils.is_tmp_checkpoint, root.glob("*/*")):  # left by processes that were killed
                shutil.rmtree(path)  # Orbax would do so in a thread that can outlive the interpreter
        self._managers = {kind: ocp.CheckpointManager(root / kind, options=options) for kind in CHECKPOINT_KINDS}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        for manager in self._managers.values():
            with _os_errors(manager.directory):
                manager.close()

    def wait(self) -> None:
        """Returns when everything saved is on disk; an OSError of the writing is raised here or by the next `save`."""
        for manager in self._managers.values():
            with _os_errors(manager.directory):
                manager.wait_until_finished()

    def step(self, kind: str) -> int | None:
        """The step of a checkpoint; None if there is none of this kind."""
        return self._managers[kind].latest_step()

    def save(self, kind: str, progress: TrainingProgress, **trees) -> None:
        """Saves pytrees of arrays under their names, with the progress; nothing if this step is already saved.

        It returns when the arrays are copied to the host; a thread writes them. See `wait`.
        """
        if self.step(kind) == progress.step:
            return
        manager, leaves = self._managers[kind], {name: _named_leaves(tree) for name, tree in trees.items()}
        distributed.run_in_first_process(lambda: _check_space(manager.directory, leaves))
        items = {name: ocp.args.StandardSave(named_leaves) for name, named_leaves in leaves.items()}
        items[_PROGRESS] = ocp.args.JsonSave(asdict(progress))
        with _os_errors(manager.directory):
            manager.save(progress.step, force=True, args=ocp.args.Composite(**items))

    def progress(self, kind: str) -> TrainingProgress:
        """The progress stored in a checkpoint; InputError if it is missing or incomplete."""
        stored = self._restore(kind, **{_PROGRESS: ocp.args.JsonRestore()})[_PROGRESS]
        try:
            progress = TrainingProgress(**stored)
            if not all(isinstance(value, int | float) for value in stored.values()) or progress.num_classes < 1:
                raise ValueError(f"its progress is {stored}")
        except (TypeError, ValueError) as error:
            raise self._damaged(kind, error) from error
        return progress

    def restore(self, kind: str, **templates) -> dict:
        """Pytrees of arrays by name, each like its template, of arrays or `jax.ShapeDtypeStruct`s with a sharding.

        Raises:
            InputError: there is no such checkpoint, it is incomplete, or it does not fit the templates.
        """
        items = self._restore(kind, **{name: ocp.args.StandardRestore(_named_leaves(template))
                                       for name, template in templates.items()})
        return {name: jax.tree.map_with_path(lambda path, _, leaves=items[name]: leaves[_leaf_name(path)], template)
                for name, template in templates.items()}

    def _restore(self, kind: str, **items) -> dict:
        manager, step = self._managers[kind], self.step(kind)
        if step is None:
            remedy = {"last": "train first (--mode=train)",
                      "best": "it is kept only when config.train.evaluate_every is above 0; take 'last'"}[kind]
            raise InputError(f"{manager.directory}: there is no checkpoint '{kind}' here; {remedy}")
        try:
            return manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax raises any kind, a bare Exception too
            raise self._damaged(kind, error) from error

    def _damaged(self, kind: str, error: Exception) -> InputError:
        reason = textwrap.shorten(str(error), 200)
        folder = self._managers[kind].directory / str(self.step(kind))
        return InputError(f"{folder}: this checkpoint is incomplete, damaged or of another network "
                          f"({type(error).__name__}: {reason}); if a run trains here at this moment, try again; if "
                          "not, delete this folder to start again from nothing, or restore it from a copy")


def restore_model(workdir: str | Path, which: str = "last") -> tuple[VideoReID, ConfigDict]:
    """The network of checkpoint "last" or "best" of a workdir, in evaluation mode, and the config that trained it.

    Raises:
        InputError: the folder is not a workdir, or the checkpoint is missing or incomplete.
    """
    config = load_config(workdir)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        classes = checkpoints.progress(which).num_classes
        try:
            check_fields(config)
            model = create_model(config, classes)
        except (AttributeError, KeyError, TypeError, ValueError, MemoryError) as error:
            raise InputError(f"{workdir}/config.json: describes no network ({error}); restore it") from error
        graphdef, state = nnx.split(model)
        state = checkpoints.restore(which, model=state)["model"]
    model = nnx.merge(graphdef, state)
    model.eval()
    return model, config


def _check_space(folder: Path, trees: dict[str, dict[str, jax.Array]]) -> None:
    """OSError where the disk has no space for arrays, before Orbax begins, which would fail in many threads."""
    needed = sum(leaf.nbytes for leaves in trees.values() for leaf in leaves.values())
    needed += needed // 4 + _SMALL_FILES
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"no space left for a checkpoint of {needed >> 20:,} MiB", str(folder))


@contextmanager
def _os_errors(folder: Path) -> Iterator[None]:
    """Within this context errors of the machine, TensorStore's too, are an OSError with the folder."""
    with path_in_errors(folder):
        try:
            yield
        except ValueError as error:
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error


def _named_leaves(tree) -> dict:
    """The leaves of a pytree by their names: independent of the classes that hold them."""
    return {_leaf_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _leaf_name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
