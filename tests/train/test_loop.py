"""The training loop: losses, evaluations, stops, and what it refuses."""

import os
import signal
from types import SimpleNamespace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.errors import InputError, shortened
from cfaan_jax.evaluate import evaluate
from cfaan_jax.experiment.checkpoint import Checkpoints
from cfaan_jax.runtime import lock
from cfaan_jax.runtime.interrupt import Interrupted, StopSignal
from cfaan_jax.runtime.sharding import batch_sharding
from cfaan_jax.train import loop, utilisation
from cfaan_jax.train.step import make_step
from tests import tiny_records
from tests.experiment.test_config import small
from tests.workdirs import rows

pytestmark = pytest.mark.slow

STEPS = 2  # of an epoch: eight identities, four in a batch


def tiny(records_directory, variant: str = "c2d"):
    config = small(variant)
    config.data.update(records=str(records_directory), image_size=tiny_records.SIZE, clip_length=min(
        2, config.data.clip_length), identities=4, tracklets=2, workers=1)
    config.train.update(epochs=3, checkpoint_every=1, evaluate_every=0)
    config.eval.update(batch=8)
    return config


@pytest.fixture
def config(records_directory):
    return tiny(records_directory)


def run(config, workdir, total: int | None = None, sampler: IdentitySampler | None = None):
    """Trains without the final evaluation; returns the network and the state."""
    sampler = sampler or loop.training_sampler(config)
    total = config.train.epochs * sampler.steps_per_epoch if total is None else total
    with StopSignal() as stop, Checkpoints(workdir) as checkpoints:
        return loop.train_steps(config, workdir, sampler, checkpoints, stop, total)


def found_with(mean: float):
    """What searches give, as far as training looks at them."""
    score = SimpleNamespace(mAP=mean, cmc=np.array([mean]))
    return {"last": SimpleNamespace(score=lambda names, *_: dict.fromkeys(names, score))}


def test_the_loss_falls_and_every_figure_is_written(config, tmp_path):
    config.train.epochs = 10
    config.augment.erasing = 0.0
    config.train.profile = (3, 4)
    run(config, tmp_path)
    assert any((tmp_path / "profile").rglob("*.xplane.pb"))
    figures = [{name: float(value) for name, value in row.items() if value} for row in rows(tmp_path)]
    assert [row["step"] for row in figures] == list(range(1, 21))
    assert [row["epoch"] for row in figures] == [1 + i // STEPS for i in range(20)]
    for row in figures:
        assert row["loss"] == pytest.approx(row["triplet"] + row["id_loss"], rel=1e-5)
        assert row["learning_rate"] == pytest.approx(1e-3) and row["clips_per_second"] > 0
        assert 0 < row["waiting_for_data"] < 1 and "model_flops_utilisation" not in row
        assert row["accuracy"] * 8 == round(row["accuracy"] * 8)
    assert np.mean([row["loss"] for row in figures[-4:]]) < 0.8 * np.mean([row["loss"] for row in figures[:4]])


def test_the_host_runs_ahead_of_the_device(config, tmp_path, monkeypatch):
    """No step waits for the one before: when a step is sent off, the device still has two others to do."""
    working, dispatched = [], []

    def slow_step(*arguments):
        step = make_step(*arguments)
        slow = jax.jit(lambda state, batch: (step(state, batch), jax.lax.fori_loop(
            0, 200, lambda _, x: x @ x / 512, jnp.ones((512, 512)) + state.stats[0][0])[0, 0]), donate_argnums=0)

        def run(state, batch):
            (state, metrics), delay = slow(state, batch)
            dispatched.append(delay)
            working.append(sum(not other.is_ready() for other in dispatched))
            return state, metrics

        return run

    monkeypatch.setattr(loop, "make_step", slow_step)
    config.train.update(epochs=4, checkpoint_every=100)
    run(config, tmp_path)
    assert max(working) >= 3


def test_ide_trains_on_cross_entropy_alone_and_knows_its_share_of_a_peak(records_directory, tmp_path, monkeypatch):
    monkeypatch.setattr(utilisation, "peak_flops", lambda kind, compute: 1e9)
    network, state = run(tiny(records_directory, "ide"), tmp_path, total=1)
    row = rows(tmp_path)[0]
    flops = utilisation.forward_flops(network.model(state.params, state.stats), (1, *tiny_records.SIZE))
    assert float(row["model_flops_utilisation"]) == pytest.approx(float(row["clips_per_second"]) * 3 * flops / 1e9)
    assert row["triplet"] == "" and row["loss"] == row["id_loss"] != ""


def test_centres_of_classes_move_and_go_on_after_a_stop(records_directory, tmp_path):
    config = tiny(records_directory, "ftwft")
    straight = run(config, tmp_path / "straight", total=3)[1].centres
    first = run(config, tmp_path / "stopped", total=1)[1].centres
    resumed = run(config, tmp_path / "stopped", total=3)[1].centres
    assert straight.shape == (1, 8, 256) and not np.array_equal(first, straight)
    np.testing.assert_array_equal(resumed, straight)
    row = rows(tmp_path / "straight")[0]
    total = sum(config.loss[f"{name}_weight"] * float(row[name]) for name in ("centre", "osm_caa", "attention"))
    assert float(row["loss"]) == pytest.approx(total + float(row["id_loss"]), rel=1e-5) and row["triplet"] == ""


def test_the_best_network_is_kept_by_the_periodic_evaluation(config, tmp_path, monkeypatch):
    config.train.evaluate_every = 1
    search = mock.Mock(side_effect=map(found_with, (0.2, 0.5, 0.3)))
    monkeypatch.setattr(evaluate, "search", search)
    run(config, tmp_path)
    assert [call.args[2] for call in search.call_args_list] == ["test"] * 3
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert (checkpoints.step("best"), checkpoints.step("last")) == (2 * STEPS, 3 * STEPS)
        assert checkpoints.progress("last").best == 0.5
    assert [(row["step"], row["mAP"]) for row in rows(tmp_path) if row["mAP"]] == [
        ("2", "0.2"), ("4", "0.5"), ("6", "0.3")]


def test_a_stop_during_an_evaluation_saves_and_evaluates_again(config, tmp_path, monkeypatch):
    config.train.update(evaluate_every=2, checkpoint_every=100)
    monkeypatch.setattr(evaluate, "search", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="SIGTERM"):
        run(config, tmp_path)
    assert saved_step(tmp_path) == 2 * STEPS
    monkeypatch.setattr(evaluate, "search", lambda *_: found_with(0.25))
    run(config, tmp_path)
    assert [row["step"] for row in rows(tmp_path) if row["mAP"]] == ["4", "6"]
    assert [row["step"] for row in rows(tmp_path) if row["loss"]] == [str(step) for step in range(1, 7)]


def saved_step(workdir) -> int | None:
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.step("last")


def test_a_loss_that_is_not_finite_stops_with_its_step_and_saves_nothing_broken(config, tmp_path):
    config.optim.learning_rate = 1e30
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step 2 \(epoch 1\).*learning_rate") as stopped:
        run(config, tmp_path)
    split, sampler = RecordSet.open(config.data.records, "train"), loop.training_sampler(config)
    names = dict.fromkeys(split.names[position] for position in sampler.batch(1))
    assert f"tracklets {shortened(list(names))};" in str(stopped.value) and saved_step(tmp_path) is None


def test_weights_that_are_not_finite_are_not_saved(config, tmp_path):
    config.optim.learning_rate = 1e39
    with pytest.raises(InputError, match=r"weights are not finite at step 1 \(epoch 1\), whose clips.*no checkpoint"):
        run(config, tmp_path, total=1)
    assert saved_step(tmp_path) is None


def test_a_device_that_is_too_small_is_told_with_the_settings(config, tmp_path, monkeypatch):
    config.model.remat = True

    def no_memory(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12.34GiB.")

    monkeypatch.setattr(loop, "make_step", lambda *_: no_memory)
    with pytest.raises(InputError, match="for a training step of 8 clips of c2d in float32, which asked for 12.34GiB; "
                                         "set config.model.compute=bfloat16, or set config.train.accumulate=2, or use"):
        loop.train(config, tmp_path)


def test_a_second_run_in_the_same_folder_is_refused_and_touches_nothing(config, tmp_path):
    with (lock.exclusive(tmp_path / ".training.lock", "trains"),
          pytest.raises(InputError, match=f"process {os.getpid()} on .*trains")):
        loop.train(config, tmp_path)
    assert not any(tmp_path.iterdir())


def test_steps_to_trace_that_never_come_are_refused(config, tmp_path):
    total = config.train.epochs * loop.training_sampler(config).steps_per_epoch
    config.train.profile = (total + 1, total + 2)
    with pytest.raises(InputError, match=f"profile=.{total + 1}, {total + 2}.: this run has {total} steps; give some"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_records_with_other_identities_are_refused_on_resume(config, tmp_path):
    run(config, tmp_path, total=1)
    other = IdentitySampler(np.repeat(np.arange(1, 8), 3), 4, 2, seed=0)
    with pytest.raises(InputError, match="7 training identities, but the checkpoint.* was trained on 8"):
        run(config, tmp_path, sampler=other)


def test_devices_that_do_not_divide_the_batch_are_named():
    with pytest.raises(InputError, match="12 clips does not divide over 8 devices"):
        batch_sharding(SimpleNamespace(size=8), 12)
