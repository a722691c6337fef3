"""Training: batches in, state out, checkpoints, periodic evaluation, and the final one.

The whole state of a run is its arrays and the number of finished steps: batches and random numbers are pure functions
of (seed, step). A run that was stopped and started again ends with the same bits as one that was not, on the same
machine.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cfaan_jax.data import augment, splits
from cfaan_jax.data.loader import TrainBatches, read_ahead
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate import evaluate
from cfaan_jax.experiment import environment
from cfaan_jax.experiment.checkpoint import Checkpoints, TrainingProgress, restore_model
from cfaan_jax.experiment.config import (
    CHECKPOINT_KINDS,
    check,
    create_model,
    flatten,
    initial_model,
    save_or_check_config,
)
from cfaan_jax.experiment.metric_log import MetricLog
from cfaan_jax.metrics import protocols
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime import distributed, lock
from cfaan_jax.runtime.interrupt import Interrupted, StopSignal
from cfaan_jax.runtime.progress import Progress
from cfaan_jax.runtime.sharding import batch_sharding, data_mesh, local_rows, put_on_mesh, replicated
from cfaan_jax.train import optim, utilisation
from cfaan_jax.train.accumulation import over_parts
from cfaan_jax.train.meters import Meters, StepTrace
from cfaan_jax.train.objective import initial_centres, moved_centres, objective


class TrainState(NamedTuple):
    """What a training step takes and gives.

    Attributes:
        params: what the optimiser changes.
        stats: the running statistics of batch normalisation.
        optimizer: the state of the optimiser.
        step: int32, finished steps.
        seed: int32, of the random numbers; stays. As a number of the program, each seed would have to be compiled anew.
        centres: of the classes, see `objective.initial_centres`.
    """

    params: nnx.State
    stats: nnx.State
    optimizer: optax.OptState
    step: jax.Array
    seed: jax.Array
    centres: jax.Array | None


def initial_state(config: ConfigDict, model: VideoReID, classes: int, optimizer: optax.GradientTransformation,
                  params: nnx.State, stats: nnx.State) -> TrainState:
    """Where the training of a network begins; `params` and `stats` are its parts."""
    return TrainState(params, stats, optimizer.init(params), jnp.int32(0), jnp.int32(config.seed),
                      initial_centres(config.loss, model, classes, config.seed))


def train(config: ConfigDict, workdir: str | Path) -> None:
    """Trains the network of a config, or goes on with it, and scores it at the end.

    Leaves in `workdir`: config.json, environment.json, checkpoints/, metrics.csv, tensorboard/, results.json, report/.

    Raises:
        InputError: bad config or records, a workdir of another config or in which another process trains, or a loss
            that is not finite.
        Interrupted: SIGTERM or Ctrl-C; everything done so far is saved.
    """
    check(config)
    sampler = training_sampler(config)
    total, profile = config.train.epochs * sampler.steps_per_epoch, config.train.profile
    if profile and profile[0] > total:
        raise InputError(f"config.train.profile={profile}: this run has {total} steps; give some of them")
    evaluate.check(config, workdir)
    with distributed.exclusive(Path(workdir) / lock.TRAINING, "trains"):
        _train(config, workdir, sampler)


def _train(config: ConfigDict, workdir: str | Path, sampler: IdentitySampler) -> None:
    """Trains and scores in a folder in which nobody else trains."""
    distributed.run_on_first_process(lambda: save_or_check_config(config, workdir))
    total = config.train.epochs * sampler.steps_per_epoch
    with StopSignal(alone=jax.process_count() == 1) as stop:
        with Checkpoints(workdir) as checkpoints:
            done = checkpoints.step("last") == total
            kinds = [kind for kind in CHECKPOINT_KINDS if checkpoints.step(kind) is not None]
            missing = _unscored(config, workdir, kinds) if done else []
            if done and not missing:
                for kind in kinds:
                    restore_model(workdir, kind)  # an error if its files are gone
                print(f"{workdir} is finished: {total} steps, results in {Path(workdir) / 'results.json'}; "
                      "score it again with --mode=evaluate")
                return
            distributed.run_on_first_process(lambda: environment.note(workdir, config.seed))
            if not done:
                Run(config, workdir, sampler, checkpoints, stop).train(total)
                missing = [kind for kind in CHECKPOINT_KINDS if checkpoints.step(kind) is not None]
        for which in missing:
            with stop.at_once():
                evaluate.evaluate(restore_model(workdir, which)[0], config, workdir, which)


def training_sampler(config: ConfigDict) -> IdentitySampler:
    """The sampler over the training split of `config.data.records`; it also numbers the classes."""
    pids = splits.open_split(config.data.records, "train", config.data).pids
    return IdentitySampler(pids, config.data.identities, config.data.tracklets, config.seed, config.data.epoch_of)


def make_step(graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, config: ConfigDict, stride: int,
              mesh: Mesh):
    """The jitted training step: (state, batch) -> (state, metrics); the given state is used up.

    The random key is that of the state's seed, folded with the step.

    Args:
        graphdef: of the model in training mode.
        optimizer: the optimiser.
        config: `augment`, `loss` and `train.accumulate` are read.
        stride: pixels to a cell of the model's last feature map.
        mesh: the devices.
    """

    def loss_fn(learnt, stats, clips, cells, labels, erased):
        params, centres = learnt
        model = nnx.merge(graphdef, params, stats, copy=True)
        output = model(clips, cells)
        loss, parts = objective(config.loss, output, labels, erased, centres)
        accuracy = jnp.mean(jnp.argmax(jnp.stack(output.logits), axis=-1) == labels)
        _, _, stats = nnx.split(model, nnx.Param, ...)
        return loss, (stats, {"loss": loss, **parts, "accuracy": accuracy})

    gradient = over_parts(jax.grad(loss_fn, has_aux=True), config.train.accumulate, mesh)

    def step(state: TrainState, batch: dict[str, jax.Array]):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        clips, cells, erased = augment.prepare_training(key, batch["frames"], batch["rectangles"], config.augment,
                                                        stride)
        (gradients, of_centres), (stats, metrics) = gradient(
            (state.params, state.centres), state.stats, clips, cells, batch["labels"], erased)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        centres = moved_centres(config.loss, state.centres, of_centres)
        return TrainState(params, stats, optimizer_state, state.step + 1, state.seed, centres), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=replicated(mesh))


class Run:
    """One training run in its folder: set up fresh or from the checkpoint `last`, then `train`.

    Args:
        config: of the run.
        workdir: its folder.
        sampler: of the training split.
        checkpoints: of the folder.
        stop: says when the run is asked to stop.
    """

    def __init__(self, config: ConfigDict, workdir: str | Path, sampler: IdentitySampler, checkpoints: Checkpoints,
                 stop: StopSignal):
        self.config, self.workdir = config, workdir
        self._sampler, self._checkpoints, self._stop = sampler, checkpoints, stop
        self._mesh = data_mesh()
        self._batch_size = config.data.identities * config.data.tracklets
        self._batch_sharding = batch_sharding(self._mesh, self._batch_size // config.train.accumulate)
        self._asked_to_stop = 0  # the signal, when all processes know of it
        self._set_up()

    def _set_up(self) -> None:
        config, classes = self.config, self._sampler.num_classes
        resumed = self._checkpoints.step("last") is not None
        model = (create_model if resumed else initial_model)(config, classes)
        evaluate.check_network(model, config)
        evaluate.check_clips(model, config.train.evaluate_clips)
        model.train()
        optimizer = optim.create(config.optim, self._sampler.steps_per_epoch)
        self._learning_rate = optim.learning_rate(config.optim, self._sampler.steps_per_epoch)
        self._clips_at_peak = utilisation.clips_at_peak(
            model, (config.data.clip_length, *config.data.image_size), list(self._mesh.devices.flat),
            config.model.compute)
        self._graphdef, params, stats = nnx.split(model, nnx.Param, ...)
        state = initial_state(config, model, classes, optimizer, params, stats)
        self.state = put_on_mesh(state, replicated(self._mesh))
        self.standing = TrainingProgress(step=0, num_classes=classes)
        if resumed:
            self._resume()
        self._step = make_step(self._graphdef, optimizer, config, model.stride, self._mesh)

    def _resume(self) -> None:
        self.standing = self._checkpoints.progress("last")
        if self.standing.num_classes != self._sampler.num_classes:
            raise InputError(
                f"config.data.records={self.config.data.records}: {self._sampler.num_classes} training identities, but "
                f"the checkpoint in {self.workdir} was trained on {self.standing.num_classes}; give the same records "
                "again, or another --workdir")
        restored = self._checkpoints.restore("last", **self._trees())
        params, stats = nnx.split_state(restored["model"], nnx.Param, ...)
        step = put_on_mesh(jnp.int32(self.standing.step), replicated(self._mesh))
        centres = restored.get("loss", {}).get("centres")
        self.state = TrainState(params, stats, restored["optimizer"], step, self.state.seed, centres)

    def train(self, total: int) -> None:
        """Trains up to `total` finished steps, with checkpoints and periodic evaluations.

        Raises:
            InputError: the loss or a weight is not finite.
            Interrupted: the run was asked to stop; the checkpoint `last` holds everything done so far.
        """
        config, standing = self.config, self.standing
        self._records = splits.open_split(config.data.records, "train", config.data)
        batches = TrainBatches(self._records, self._sampler, config.data.clip_length,
                               config.data.image_size, total, config.data.sampling,
                               local_rows(self._batch_sharding, self._batch_size),
                               splits.clip_reader(self._records, config.data))
        print(f"training {config.model.name}: {standing.num_classes} identities, {total} steps of {self._batch_size} "
              f"clips on {self._mesh.size} x {self._mesh.devices.flat[0].device_kind}"
              + (f", going on after step {standing.step}" if standing.step else ""))
        reader = read_ahead(batches, standing.step, config.data.workers)
        self._meters = Meters(self._batch_size, self._clips_at_peak)
        self._trace = StepTrace(config.train.profile, Path(self.workdir) / "profile")
        with (self._trace, self._metric_log() as log,
              Progress(f"train {config.model.name}", total, standing.step) as progress):
            while True:
                if self._due(config.train.evaluate_every, total) and standing.evaluated < standing.step:
                    with progress.paused():
                        self._evaluate(log)
                if standing.step == total or self._due(config.train.checkpoint_every, total):
                    self._save()
                if standing.step == total:
                    return
                self._train_until(self._next_pause(total), reader, log, progress)
                if self._asked_to_stop:
                    self._save()
                    raise Interrupted(self._asked_to_stop)

    def _metric_log(self) -> AbstractContextManager[MetricLog | None]:
        if not distributed.is_first_process():
            return nullcontext()
        return MetricLog(self.workdir, self.standing.step, self.standing.evaluated, loggers=self.config.train.loggers,
                         fields=flatten(self.config.to_dict()))

    def _train_until(self, until: int, reader: Iterator[dict], log: MetricLog | None, progress: Progress) -> None:
        """Trains up to a step, or until one of the processes is asked to stop: all must leave after the same step."""
        standing, pending = self.standing, None
        self._meters.start()
        while standing.step < until and not self._asked_to_stop:
            with self._meters.waiting():
                batch = next(reader)
            batch = put_on_mesh(batch, self._batch_sharding)
            self._trace.before(standing.step + 1)
            self.state, metrics = self._step(self.state, batch)
            standing.step += 1
            asked = distributed.max_over_processes(self._mesh, self._stop.received or 0)
            # A step's figures are fetched after the next one was sent off, so that the device never waits.
            if pending is not None:
                self._report(log, progress, *pending)
            pending = (standing.step, metrics, asked)
        if pending is not None:
            self._report(log, progress, *pending)

    def _next_pause(self, total: int) -> int:
        """The next step after which something is evaluated or saved."""
        epochs = [self.config.train.evaluate_every, self.config.train.checkpoint_every]
        steps = [every * self._sampler.steps_per_epoch for every in epochs if every]
        return min([total, *(self.standing.step // each * each + each for each in steps)])

    def _due(self, every: int, total: int) -> bool:
        """Whether what is done every so many epochs (0: never) and at the end is due after this step."""
        step = self.standing.step
        return bool(every) and step > 0 and (step == total or step % (every * self._sampler.steps_per_epoch) == 0)

    def _save(self) -> None:
        # A gradient can overflow where the loss does not; the checkpoint before such a step must stay.
        if not _all_finite(self.state.params):
            raise self._astray("the weights are not finite", self.standing.step)
        self._checkpoints.save("last", self.standing, **self._trees())

    def _trees(self) -> dict:
        """What the checkpoint `last` holds."""
        state = self.state
        trees = {"model": nnx.merge_state(state.params, state.stats), "optimizer": state.optimizer}
        return trees if state.centres is None else trees | {"loss": {"centres": state.centres}}

    def _evaluate(self, log: MetricLog | None) -> None:
        """By the clips of `config.train.evaluate_clips`; keeps the network if it is the best so far."""
        model = nnx.merge(self._graphdef, self.state.params, self.state.stats)
        model.eval()
        settings, standing, clips = self.config.eval, self.standing, self.config.train.evaluate_clips
        protocol = protocols.resolve(settings.protocols)[0].name
        try:
            with self._stop.at_once():
                found = evaluate.search(model, self.config, "last", clips)
                score = found.score([protocol], settings.corrections, settings.max_rank)[protocol]
        except Interrupted:
            self._save()
            raise
        mean, rank1 = distributed.value_of_first_process(float(score.mAP)), float(score.cmc[0])
        print(f"step {standing.step}, clips {clips}, {protocol}: mAP {mean:.1%}, rank-1 {rank1:.1%}")
        if log is not None:
            log.write("evaluation", standing.step, self._epoch(standing.step), mAP=mean, rank1=rank1)
        standing.evaluated = standing.step
        if mean > standing.best:
            standing.best = mean
            self._checkpoints.save("best", standing, model=nnx.merge_state(self.state.params, self.state.stats))

    def _report(self, log: MetricLog | None, progress: Progress, step: int, metrics: dict[str, jax.Array],
                asked: jax.Array) -> None:
        self._asked_to_stop = int(asked)
        figures = {name: float(value) for name, value in jax.device_get(metrics).items()}
        meters = self._meters.finished()  # only now is the step known to be finished, not only sent off
        self._trace.after(step)
        if not math.isfinite(figures["loss"]):
            raise self._astray(f"the loss is {figures['loss']}", step)
        figures["learning_rate"] = float(self._learning_rate(step - 1))
        figures |= meters
        if log is not None:
            log.write("train", step, self._epoch(step), **figures)
        progress.advance(loss=figures["loss"], accuracy=figures["accuracy"], lr=figures["learning_rate"],
                         **{"clips/s": figures["clips_per_second"]})

    def _astray(self, what: str, step: int) -> InputError:
        """The error of a run whose numbers are no longer finite after a step."""
        last = self._checkpoints.step("last")
        names = dict.fromkeys(self._records.names[position] for position in self._sampler.batch(step - 1))
        return InputError(
            f"{what} at step {step} (epoch {self._epoch(step)}), whose clips come from the tracklets "
            f"{', '.join(names)}; "
            f"{f'the checkpoint of step {last} is kept' if last else 'no checkpoint was saved yet'}; look at these "
            "tracklets, try a lower config.optim.learning_rate or a longer config.optim.warmup_epochs, in another "
            "--workdir")

    def _epoch(self, step: int) -> int:
        """The epoch, counted from 1, to which a finished step belongs."""
        return (step - 1) // self._sampler.steps_per_epoch + 1


@jax.jit
def _all_finite(tree) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _unscored(config: ConfigDict, workdir: str | Path, kinds: list[str]) -> list[str]:
    """Which of these checkpoints have no row of this `config.eval` in the results.json that the first process sees."""
    scored = {row["weights"] for row in evaluate.results_of(workdir)
              if (row["clips"], row["distance"]) == (config.eval.clips, config.eval.distance)}
    return [kind for kind in kinds if distributed.value_of_first_process(kind not in scored)]
