"""One device, eight, and two processes with four each: the same steps, results and checkpoints."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cfaan_jax.deploy import extract
from cfaan_jax.runtime import distributed
from tests import tiny_records
from tests.data_prep.checks import check_refused
from tests.layout import KEPT, TOTAL
from tests.workdirs import arrays, losses, results, rows

pytestmark = pytest.mark.slow

LAYOUTS = {"one": [1], "eight": [8], "pair": [4, 4]}  # devices of each process
RESUMED = {"one": "eight", "pair": "one", "eight": "pair"}  # whose checkpoint each one goes on from
# No ReLU follows this offset, and the next normalisation takes it out again: its gradient is 0 but for rounding, which
# Adam makes as large as any other.
NOISE = "model/backbone.bn1.bias.value"


def start(records: Path, root: Path, name: str) -> list[subprocess.Popen]:
    """Starts a layout on damaged records; the first of several processes has a copy of its own that is whole."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    started = []
    for rank, devices in enumerate(LAYOUTS[name]):
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags,
                       "JAX_COMPILATION_CACHE_DIR": f"{root}/compiled",
                       "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        if len(LAYOUTS[name]) > 1:
            environment |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(len(LAYOUTS[name])),
                            "JAX_PROCESS_ID": str(rank)}
        started.append(subprocess.Popen(
            [sys.executable, "-m", "tests.layout", records if rank or len(LAYOUTS[name]) == 1 else root / "whole", root,
             name, RESUMED[name]], env=environment, text=True,
            cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    return started


@pytest.fixture(scope="module")
def runs(tmp_path_factory, records_directory) -> tuple[Path, dict[str, list[str]]]:
    """The folder of all runs, and what each process printed."""
    root = tmp_path_factory.mktemp("layouts")
    damaged = shutil.copytree(shutil.copytree(records_directory, root / "whole"), root / "damaged")
    tiny_records.damage(tiny_records.damage(damaged, "train", 4), "gallery", 1)
    started = {name: start(damaged, root, name) for name in LAYOUTS}
    printed = {}
    try:
        for name, members in started.items():
            ended = [process.communicate(timeout=900) for process in members]
            assert not any(process.returncode for process in members), (name, [error[-3000:] for _, error in ended])
            printed[name] = [output for output, _ in ended]
    finally:
        for process in sum(started.values(), []):
            process.kill()
    return root, printed


def assert_close(one: dict[str, np.ndarray], other: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> None:
    """Equal to within a small part of what the steps since `before` changed."""
    assert one.keys() == other.keys() and any(name.startswith("optimizer/") for name in one)
    for name, value in one.items():
        if name != NOISE:
            moved = np.linalg.norm(value.astype(float) - before[name])
            assert np.linalg.norm(value.astype(float) - other[name]) <= 0.02 * moved + 1e-6, name


@pytest.mark.parametrize("name", ["eight", "pair"])
def test_every_layout_takes_the_steps_of_one_device(runs, name):
    root, printed = runs
    assert "8 clips on 8 x cpu" in printed[name][0] and "8 clips on 1 x cpu" in printed["one"][0]
    assert len(losses(root / name)) == TOTAL
    np.testing.assert_allclose(losses(root / name), losses(root / "one"), rtol=1e-5)
    assert_close(arrays(root / name), arrays(root / "one"), arrays(root / f"one-{KEPT}"))


@pytest.mark.parametrize("name, other", RESUMED.items())
def test_every_layout_goes_on_from_the_checkpoint_of_another(runs, name, other):
    root, printed = runs
    assert f"resumed after step {KEPT}" in printed[name][0]
    resumed = root / f"{name}-from-{other}"
    assert losses(resumed)[:KEPT] == losses(root / other)[:KEPT]
    np.testing.assert_allclose(losses(resumed), losses(root / "one"), rtol=1e-5)
    assert_close(arrays(resumed), arrays(root / "one"), arrays(root / f"one-{KEPT}"))


def features(workdir: Path, weights: str) -> dict[str, np.ndarray]:
    with np.load(workdir / f"features-{weights}-test_0.npz") as stored:
        return dict(zip(stored["names"].tolist(), stored["features"], strict=True))


def test_every_layout_has_the_same_evaluations_written_once(runs):
    root, printed = runs
    for name in LAYOUTS:
        kinds = ["last", "best"] if name == "pair" else ["last"]
        assert [(row["weights"], row["left_out"]) for row in results(root / name)] == [(kind, 1) for kind in kinds]
        expected = np.stack(list(features(root / "one", "last").values()))
        for weights in kinds:
            found = np.stack(list(features(root / name, weights).values()))
            np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())
        assert [row["step"] for row in rows(root / name) if row["mAP"]] == [str(TOTAL)] * (name == "pair")
        assert printed[name][0].count("\nleft out: ") == 2  # one in training, one in the gallery
        assert printed[name][0].count("report: ") == len(kinds)
        assert (root / name / "report/last-test_0/index.html").is_file()
    assert printed["pair"][1].count("clips") == 0


def test_several_processes_extract_and_export_once(runs):
    root, printed = runs
    evaluated = features(root / "pair", "last")
    found = extract.read(root / "pair-features")
    extracted = dict(zip(found.ids, found.features, strict=True))
    assert evaluated.keys() < extracted.keys()
    for name, feature in evaluated.items():
        np.testing.assert_allclose(extracted[name], feature, atol=1e-5 * np.abs(feature).max())
    assert {path.name for path in (root / "pair-export").iterdir()} > {"network.stablehlo", "network.json"}
    for words in ("features: ", "exported: "):
        assert [words + str(root) in text for text in printed["pair"]] == [True, False]


@pytest.mark.parametrize("environment, expected", [
    ({"JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES=two"),
    ({"JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES=2: give each process"),
    ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "from 0 to N - 1")])
def test_a_place_among_the_processes_that_does_not_fit_is_named(monkeypatch, environment, expected):
    for name, value in {"JAX_COORDINATOR_ADDRESS": "localhost:1", **environment}.items():
        monkeypatch.setenv(name, value)
    check_refused(expected, distributed.join)
