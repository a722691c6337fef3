"""Checkpoints: whole or not there, bit for bit, and errors that help."""

import json
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cfaan_jax.experiment.checkpoint import Checkpoints, TrainingProgress, restore_model
from cfaan_jax.experiment.config import create_model, load_config, save_or_check_config
from tests.data_prep.checks import check_refused
from tests.experiment.test_config import small


def trees(seed: int) -> dict:
    """A network's state and something like an optimiser's: named tuples, tuples, scalars of other types."""
    state = nnx.state(create_model(small(), 5))
    keys = iter(jax.random.split(jax.random.key(seed), 1000))
    drawn = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape, leaf.dtype), state)
    return {"model": drawn, "optimizer": (jnp.int32(seed), jax.tree.map(jnp.square, drawn), jnp.bfloat16(1.5))}


def assert_same(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    save_or_check_config(small(), workdir)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save("last", TrainingProgress(4, 5), **trees(4))
        checkpoints.save("best", TrainingProgress(4, 5, evaluated=4, best=0.5), model=trees(4)["model"])
        checkpoints.save("last", TrainingProgress(6, 5, evaluated=4, best=0.5), **trees(6))
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


@pytest.mark.slow
def test_everything_comes_back_bit_for_bit(saved):
    with Checkpoints(saved, read_only=True) as checkpoints:
        assert (checkpoints.step("last"), checkpoints.step("best")) == (6, 4)
        assert checkpoints.progress("last") == TrainingProgress(6, 5, evaluated=4, best=0.5)
        assert_same(checkpoints.restore("last", **trees(0)), trees(6))
        assert_same(checkpoints.restore("best", model=trees(0)["model"])["model"], trees(4)["model"])


def test_saving_the_same_step_again_keeps_what_is_there(workdir):
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save("last", TrainingProgress(6, 5), **trees(7))
        assert_same(checkpoints.restore("last", **trees(0)), trees(6))


@pytest.mark.slow
@pytest.mark.parametrize("which, seed", [("last", 6), ("best", 4)])
def test_a_trained_network_comes_back_ready_for_evaluation(saved, which, seed):
    model, config = restore_model(saved, which)
    assert_same(jax.tree.leaves(nnx.state(model)), jax.tree.leaves(trees(seed)["model"]))
    assert config == load_config(saved)
    assert model.features(jnp.ones((1, config.data.clip_length, 64, 32, 3))).shape == (1, model.feature_size)


def test_restoring_changes_nothing_on_disk_and_a_missing_best_says_when_there_is_one(workdir):
    shutil.rmtree(workdir / "checkpoints/best")
    before = sorted(workdir.rglob("*"))
    restore_model(workdir)
    check_refused("no checkpoint 'best'.*evaluate_every", restore_model, workdir, "best")
    assert sorted(workdir.rglob("*")) == before


def test_an_untrained_workdir_says_to_train(tmp_path):
    save_or_check_config(small(), tmp_path)
    check_refused("no checkpoint 'last'.*train first", restore_model, tmp_path)


def test_the_latest_alone_is_kept_and_what_a_killed_process_left_is_not_taken_for_it(workdir):
    assert [path.name for path in (workdir / "checkpoints/last").iterdir() if path.is_dir()] == ["6"]
    unfinished = workdir / "checkpoints/last/8.orbax-checkpoint-tmp"
    unfinished.mkdir()
    (unfinished / "model").write_text("half")
    with Checkpoints(workdir, read_only=True) as checkpoints:
        assert checkpoints.step("last") == 6


def write_progress(checkpoint: Path, content: str) -> None:
    [path] = [path for path in (checkpoint / "standing").iterdir() if "step" in path.read_text()]
    path.write_text(content)


def cut_arrays(checkpoint: Path, pattern: str = "*") -> None:
    for path in (checkpoint / "model").rglob(pattern):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])


@pytest.mark.parametrize("damage", [
    lambda checkpoint: shutil.rmtree(checkpoint / "model"), lambda checkpoint: shutil.rmtree(checkpoint / "standing"),
    cut_arrays, partial(cut_arrays, pattern="ocdbt.process_0/d/*"),
    *(partial(write_progress, content=content) for content in (
        "[]", "{}", "5", "null", '{"step": 6, "num_classes": -1}', '{"step": 6, "more": 1}'))])
def test_a_damaged_checkpoint_names_its_folder_and_the_remedy(workdir, damage):
    damage(workdir / "checkpoints/last/6")
    check_refused("checkpoints/last/6: this checkpoint is incomplete, damaged.*delete this folder", restore_model,
                  workdir)


@pytest.mark.parametrize("said, section, name, value", [
    *(("config.json: describes no network", *field) for field in (
        ("model", "width", 0), ("model", "width", 10**9), ("model", "depths", [10**6] * 4), ("eval", "clips", "zz"),
        ("eval", "batch", "x"), ("eval", "distance", "zz"), ("data", "image_size", [10**6, 10**6]))),
    ("of another network", "model", "width", 16)])
def test_a_config_that_is_strange_or_of_another_network_is_named(workdir, said, section, name, value):
    config = json.loads((workdir / "config.json").read_text())
    config[section][name] = value
    (workdir / "config.json").write_text(json.dumps(config))
    check_refused(said, restore_model, workdir)
