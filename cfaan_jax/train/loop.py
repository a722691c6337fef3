"""Training (section 4.2): batches in, state out, checkpoints, periodic evaluation, and the final one.

The whole state of a run is its arrays and the number of finished steps: batches and random numbers are pure functions
of (seed, step). A run that was stopped and resumed ends with the same bits as one that was not, on the same machine.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cfaan_jax.data.loader import TrainBatches, read_ahead
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.data.splits import open_split
from cfaan_jax.errors import InputError, shortened
from cfaan_jax.evaluate import evaluate
from cfaan_jax.experiment import environment
from cfaan_jax.experiment.checkpoint import Checkpoints, TrainingProgress, restore_model
from cfaan_jax.experiment.config import create_model, initial_model, save_or_check_config
from cfaan_jax.experiment.fields import CHECKPOINT_KINDS, check
from cfaan_jax.experiment.results_file import rows_of
from cfaan_jax.metrics import protocols
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import device_memory, distributed, lock
from cfaan_jax.runtime.interrupt import Interrupted, StopSignal
from cfaan_jax.runtime.sharding import batch_sharding, data_mesh, local_rows, put_on_mesh, replicated
from cfaan_jax.train import optim, utilisation
from cfaan_jax.train.meters import Meters
from cfaan_jax.train.step import Network, TrainState, initial_state, make_step, named_arrays, state_of
from cfaan_jax.train.step_log import Divergence, StepLog, epoch_of


def train(config: ConfigDict, workdir: str | Path) -> None:
    """Trains the network of a config, or resumes it, and scores its checkpoints at the end.

    Leaves in `workdir`: config.json, environment.json, checkpoints/, metrics.csv, tensorboard/, results.json, report/.

    Raises:
        InputError: bad config or records, a workdir of another config or in which another process trains, or a loss
            that is not finite.
        Interrupted: SIGTERM or Ctrl-C; all finished steps are saved.
    """
    check(config)
    sampler = training_sampler(config)
    total, profile = config.train.epochs * sampler.steps_per_epoch, config.train.profile
    if profile and profile[0] > total:
        raise InputError(f"config.train.profile={profile}: this run has {total} steps; give some of them")
    evaluate.check(config, workdir)
    if not (Path(workdir) / "config.json").exists():  # before the folder takes a config that no network fits
        evaluate.check_network(initial_model(config, sampler.num_classes), config)
    with (distributed.exclusive(Path(workdir) / lock.TRAINING, "trains"),
          StopSignal(shared=jax.process_count() > 1) as stop):
        distributed.run_in_first_process(lambda: save_or_check_config(config, workdir))
        with Checkpoints(workdir) as checkpoints:
            finished = checkpoints.step("last") == total
            unscored = _unscored(config, workdir, checkpoints) if finished else ()
            if not finished or unscored:
                distributed.run_in_first_process(lambda: environment.note(workdir, config.seed))
            if not finished:
                with device_memory.explained(*_memory_of(config)):
                    train_steps(config, workdir, sampler, checkpoints, stop, total)
                unscored = [kind for kind in CHECKPOINT_KINDS if checkpoints.step(kind) is not None]
        if not unscored:
            print(f"{workdir} is finished: {total} steps, results in {Path(workdir) / 'results.json'}; "
                  "score it again with --mode=evaluate")
        else:
            with stop.interruptible():
                evaluate.evaluate({kind: restore_model(workdir, kind)[0] for kind in unscored}, config, workdir)


def _memory_of(config: ConfigDict) -> tuple[str, str]:
    """What a training step is, and the settings that make it smaller, for `device_memory.explained`."""
    model, identities, parts = config.model, config.data.identities, config.train.accumulate
    smaller = [f"set {text}" for text, is_left in (
        ("config.model.compute=bfloat16", model.compute != "bfloat16"), ("config.model.remat=True", not model.remat),
        (f"config.train.accumulate={2 * parts}", identities % (2 * parts) == 0)) if is_left]
    clips = identities * config.data.tracklets // parts
    return (f"a training step of {clips} clips of {model.name} in {model.compute}",
            f"{', or '.join([*smaller, 'use more devices'])}; docs/scale/devices.md has what each takes")


def training_sampler(config: ConfigDict) -> IdentitySampler:
    """The sampler over the training split of `config.data.records`; it also numbers the classes."""
    pids = open_split(config.data.records, "train", config.data).pids
    return IdentitySampler(pids, config.data.identities, config.data.tracklets, config.seed, config.data.epoch_of)


def train_steps(config: ConfigDict, workdir: str | Path, sampler: IdentitySampler, checkpoints: Checkpoints,
                stop: StopSignal, total: int) -> tuple[Network, TrainState]:
    """Trains up to `total` finished steps, from the checkpoint `last` on if there is one; for errors, see `train`.

    Returns the network in training mode, and the last state. `last` holds all finished steps if Interrupted.
    """
    settings, data, steps_per_epoch = config.train, config.data, sampler.steps_per_epoch
    mesh, batch_size = data_mesh(), data.identities * data.tracklets

    # Network and state, freshly drawn or from the checkpoint.
    resumes = checkpoints.step("last") is not None
    model = (create_model if resumes else initial_model)(config, sampler.num_classes)
    evaluate.check_network(model, config)
    evaluate.check_clips(model, settings.evaluate_clips)
    model.train()
    optimizer, network = optim.create(config.optim, steps_per_epoch), Network.of(model)
    state = put_on_mesh(initial_state(config, sampler.num_classes, optimizer, model), replicated(mesh))
    progress = TrainingProgress(step=0, num_classes=sampler.num_classes)
    if resumes:
        state, progress = _resume(config, workdir, checkpoints, network, state, sampler.num_classes)
    train_step = make_step(network, optimizer, config, mesh)

    # Data, from the first step that is not done yet.
    records, sharding = open_split(data.records, "train", data), batch_sharding(mesh, batch_size // settings.accumulate)
    batches = read_ahead(TrainBatches(records, sampler, data.clip_length, data.image_size, total, data.sampling,
                                      local_rows(sharding, batch_size)), progress.step, data.workers)

    def is_due(every: int) -> bool:
        """Whether something done every so many epochs (0: never), and at the end, is due after this step."""
        step = progress.step
        return bool(every and step) and (step == total or step % (every * steps_per_epoch) == 0)

    divergence_error = partial(_divergence_error, sampler, records.names, checkpoints)
    print(f"training {config.model.name}: {progress.num_classes} identities, {total} steps of {batch_size} clips on "
          f"{mesh.size} x {mesh.devices.flat[0].device_kind}{f', resumed after step {progress.step}' * resumes}")
    meters = _meters(config, model, mesh)
    with StepLog(config, workdir, total, progress, meters, steps_per_epoch, divergence_error) as log:
        while True:
            if is_due(settings.evaluate_every) and progress.evaluated < progress.step:
                with log.paused():
                    _evaluate(config, network, state, progress, checkpoints, stop, log, divergence_error)
            if progress.step == total or is_due(settings.checkpoint_every):
                log.flush()
                _save(checkpoints, network, state, progress, divergence_error)
            if progress.step == total:
                checkpoints.wait()
                return network, state
            batch = put_on_mesh(log.next_batch(batches, progress.step + 1), sharding)
            state, metrics = train_step(state, batch)
            progress.step += 1
            stopped_by = log.add(progress.step, metrics, distributed.max_over_processes(mesh, stop.received or 0))
            if stopped_by:
                log.flush()
                _save(checkpoints, network, state, progress, divergence_error)
                raise Interrupted(stopped_by)


def _meters(config: ConfigDict, model: VideoReID, mesh: Mesh) -> Meters:
    peak = utilisation.clips_at_peak(model, (config.data.clip_length, *config.data.image_size),
                                     list(mesh.devices.flat), config.model.compute)
    return Meters(config.data.identities * config.data.tracklets, peak)


def _resume(config: ConfigDict, workdir: str | Path, checkpoints: Checkpoints, network: Network, state: TrainState,
            classes: int) -> tuple[TrainState, TrainingProgress]:
    """The state and the progress in the checkpoint `last`; `state` is one of the same structure."""
    progress = checkpoints.progress("last")
    if progress.num_classes != classes:
        raise InputError(
            f"config.data.records={config.data.records}: {classes} training identities, but the checkpoint in "
            f"{workdir} was trained on {progress.num_classes}; give the same records again, or another --workdir")
    named = checkpoints.restore("last", **named_arrays(network, state))
    return jax.jit(state_of, out_shardings=state.step.sharding)(named, progress.step, config.seed), progress


def _save(checkpoints: Checkpoints, network: Network, state: TrainState, progress: TrainingProgress,
          divergence_error: Divergence) -> None:
    # A gradient can overflow where the loss does not; the checkpoint before such a step must stay.
    if not jnp.isfinite(ravel_pytree(state.params)[0]).all():
        raise divergence_error("the weights are not finite", progress.step)
    checkpoints.save("last", progress, **named_arrays(network, state))


def _evaluate(config: ConfigDict, network: Network, state: TrainState, progress: TrainingProgress,
              checkpoints: Checkpoints, stop: StopSignal, log: StepLog, divergence_error: Divergence) -> None:
    """Scores the network by the clips of `config.train.evaluate_clips`, and keeps it if it is the best so far."""
    model = network.model(state.params, state.stats)
    model.eval()
    settings, clips = config.eval, config.train.evaluate_clips
    protocol = protocols.resolve(settings.protocols)[0].name
    try:
        with stop.interruptible():
            search = evaluate.search({"last": model}, config, clips)["last"]
            score = search.score([protocol], settings.corrections, settings.max_rank)[protocol]
    except Interrupted:
        _save(checkpoints, network, state, progress, divergence_error)
        raise
    mean, rank1 = distributed.value_of_first_process(float(score.mAP)), float(score.cmc[0])
    print(f"step {progress.step}, clips {clips}, {protocol}: mAP {mean:.1%}, rank-1 {rank1:.1%}")
    log.evaluation(progress.step, mAP=mean, rank1=rank1)
    progress.evaluated = progress.step
    if mean > progress.best:
        progress.best = mean
        checkpoints.save("best", progress, model=named_arrays(network, state)["model"])


def _divergence_error(sampler: IdentitySampler, names: list[str], checkpoints: Checkpoints, problem: str,
                      step: int) -> InputError:
    """The error of a run that diverged at a step, with the tracklets of its clips."""
    last = checkpoints.step("last")
    tracklets = list(dict.fromkeys(names[position] for position in sampler.batch(step - 1)))
    state = f"the checkpoint of step {last} is kept" if last else "no checkpoint was saved yet"
    return InputError(
        f"training diverged: {problem} at step {step} (epoch {epoch_of(step, sampler.steps_per_epoch)}), whose clips "
        f"come from the tracklets {shortened(tracklets)}; {state}; look at these tracklets, try a lower "
        "config.optim.learning_rate or a longer config.optim.warmup_epochs, in another --workdir")


def _unscored(config: ConfigDict, workdir: str | Path, checkpoints: Checkpoints) -> list[str]:
    """The checkpoints without a row of this `config.eval` in the results.json that the first process sees."""
    scored = {row["weights"] for row in rows_of(workdir)
              if (row["clips"], row["distance"]) == (config.eval.clips, config.eval.distance)}
    kinds = [kind for kind in CHECKPOINT_KINDS if checkpoints.step(kind) is not None]
    for kind in kinds:
        restore_model(workdir, kind)  # raises if its files are gone
    return [kind for kind in kinds if distributed.value_of_first_process(kind not in scored)]
