"""The command as users type it: training, stopping, going on, evaluating, and what goes wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cfaan_jax import FeatureExtractor
from cfaan_jax import main as command_line
from cfaan_jax.data.records import RecordSet
from cfaan_jax.metrics.search import Search
from tests.workdirs import arrays, losses, results

REPOSITORY = Path(__file__).parents[2]
SHRUNK = {"model.width": 8, "model.depths": "(1,1,1,1)", "data.image_size": "(64,32)", "data.clip_length": 2,
          "data.identities": 4, "data.tracklets": 2, "data.workers": 1, "train.epochs": 3, "train.evaluate_every": 2,
          "eval.batch": 8}
COMMAND = [sys.executable, "-m", "cfaan_jax.main"]


def flags(workdir, records, *more: str, variant: str = "c2d", **fields) -> list[str]:
    settings = {"data.records": records, **SHRUNK, **{name.replace("__", "."): value for name, value in fields.items()}}
    return [f"--config=configs/quickstart.py:{variant}", f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in settings.items()), *more]


def call(arguments: list[str], status: int = 0, **environment: str) -> str:
    """Runs a command in a process of its own; returns its output, or what it says in vain."""
    done = subprocess.run([*COMMAND, *arguments], cwd=REPOSITORY, env=os.environ | environment, capture_output=True,
                          text=True, check=False, timeout=900)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stderr if status else done.stdout


@pytest.fixture
def done(monkeypatch, capsys):
    """As `call`, but in this process, which spares seconds of imports."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", ""))

    def run(arguments: list[str], status: int = 0) -> str:
        capsys.readouterr()
        try:
            ended = command_line.main(arguments)
        except SystemExit as end:  # of --help
            ended = end.code
        output, error = capsys.readouterr()
        assert ended == status, output[-3000:] + error[-3000:]
        return error if status else output

    return run


@pytest.fixture
def fail(done):
    """Runs a command that is refused; returns its error."""
    def run(arguments: list[str]) -> str:
        error = done(arguments, status=2)
        assert error.startswith("error: ") and error.count("error: ") == 1
        return error

    return run


@pytest.mark.slow
def test_a_refused_command_ends_without_a_traceback():
    error = call(["--workdir=x"], status=2)
    assert error.startswith("error: --config is missing") and "Traceback" not in error


@pytest.fixture(scope="module")
def finished(tmp_path_factory, records_directory) -> Path:
    workdir = tmp_path_factory.mktemp("finished") / "run"
    text = call(flags(workdir, records_directory))
    assert "6/6" in text and "loss" in text and "clips/s" in text and "mAP" in text
    return workdir


@pytest.mark.slow
def test_a_run_leaves_checkpoints_figures_and_results(finished):
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"last", "best"}
    assert len(losses(finished)) == 6
    assert {(row["weights"], row["protocol"], row["clips"]) for row in results(finished)} == {
        (weights, protocol, "all_sampled") for weights in ("last", "best") for protocol in ("mars", "mars_revised")}
    assert any((finished / "tensorboard").iterdir()) and any((finished / "report").glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("variant, clips", [
    ("ap3d_nl", "dense_cut"), ("tclnet", "dense"), ("ftwft", "dense"), ("tclnet_cfaan_recipe", "all_sampled")])
def test_every_other_system_trains_and_is_scored_by_its_own_recipe(tmp_path, records_directory, variant, clips, done):
    text = done(flags(tmp_path / "run", records_directory, variant=variant, data__clip_length=4, train__epochs=1,
                      train__evaluate_every=1))
    assert np.isfinite(losses(tmp_path / "run")).all() and len(losses(tmp_path / "run")) >= 2
    rows = results(tmp_path / "run")
    assert {(row["weights"], row["protocol"], row["clips"]) for row in rows} == {
        (weights, protocol, clips) for weights in ("last", "best") for protocol in ("mars", "mars_revised")}
    assert ("euclidean distance" in text) == (variant == "ftwft")
    assert {row["network"] for row in rows} == {variant.replace("_cfaan_recipe", ", cfaan head")}


@pytest.mark.slow
def test_a_finished_run_says_so_and_touches_nothing(finished, records_directory, done):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert "is finished: 6 steps" in done(flags(finished, records_directory))
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


@pytest.mark.slow
def test_another_config_in_the_same_folder_is_refused(finished, records_directory, fail):
    error = fail(flags(finished, records_directory, optim__learning_rate=0.5))
    assert "config.optim.learning_rate=0.5 (there 0.001)" in error and "--workdir" in error


@pytest.fixture(scope="module")
def stopped_and_resumed(tmp_path_factory, records_directory) -> Path:
    """A run that got SIGTERM after its first steps and was started again."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    command = flags(workdir, records_directory)
    with subprocess.Popen([*COMMAND, *command], cwd=REPOSITORY, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 600
        while not ((workdir / "metrics.csv").exists() and losses(workdir)):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=600)
        assert process.returncode == 128 + signal.SIGTERM, error[-3000:]
        assert "stopped by SIGTERM" in error and "the same command resumes" in error
    steps = len(losses(workdir))
    assert 1 <= steps <= 6
    assert f"resumed after step {steps}" in call(command) or steps == 6
    return workdir


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits_and_results(finished, stopped_and_resumed):
    straight, resumed = arrays(finished), arrays(stopped_and_resumed)
    assert straight.keys() == resumed.keys() and any(name.startswith("optimizer/") for name in straight)
    for name in straight:
        np.testing.assert_array_equal(straight[name], resumed[name], err_msg=name)
    assert losses(finished) == losses(stopped_and_resumed)
    assert results(finished) == results(stopped_and_resumed)


@pytest.mark.slow
def test_evaluation_of_a_checkpoint_adds_its_rows(finished, records_directory, done):
    before = results(finished)
    done(flags(finished, records_directory, "--mode=evaluate", eval__weights="best", eval__clips="test",
               eval__protocols="('cfaan_released',)"))
    [added] = [row for row in results(finished) if row not in before]
    assert (added["weights"], added["protocol"], added["clips"]) == ("best", "cfaan_released", "test")
    assert len(results(finished)) == len(before) + 1


@pytest.mark.slow
def test_a_program_gets_the_features_of_the_evaluation(finished, records_directory):
    stored = Search.load(finished / "features-best-all_sampled.npz")
    found = FeatureExtractor.from_workdir(finished, "best")(RecordSet.open(records_directory, "query"))
    assert found.ids == stored.names[:stored.num_queries].tolist()
    np.testing.assert_allclose(found.features, stored.features[:stored.num_queries], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_an_untrained_network_can_be_scored(tmp_path, records_directory, done):
    text = done(flags(tmp_path / "run", records_directory, "--mode=evaluate", eval__weights="untrained"))
    assert {row["weights"] for row in results(tmp_path / "run")} == {"untrained"} and "mAP" in text
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.slow
def test_a_network_can_be_exported(tmp_path, records_directory, done):
    text = done(flags(tmp_path / "run", records_directory, "--mode=export", eval__weights="untrained"))
    assert f"exported: {tmp_path / 'run/export-untrained'}" in text
    found = FeatureExtractor.from_export(tmp_path / "run/export-untrained")(RecordSet.open(records_directory, "query"))
    assert np.isfinite(found.features).all() and found.features.any(axis=1).all()


@pytest.mark.slow
def test_features_are_extracted_and_searched(tmp_path, records_directory, done):
    features = tmp_path / "features"
    text = done(flags(tmp_path / "run", records_directory, "--mode=extract", f"--input={records_directory}",
                      f"--out={features}", eval__weights="untrained"))
    assert f"features: {features}" in text
    name = RecordSet.open(records_directory, "query").names[0]
    text = done(["--mode=search", f"--query={features}", f"--gallery={features}", "--top=2"])
    first = next(line for line in text.splitlines() if f" {name} " in line)
    assert [cell.strip() for cell in first.split("|")][1:5] == [name, "1", name, "1.0000"]


@pytest.mark.slow
def test_trees_of_modules_without_shared_references_suffice(finished, tmp_path, records_directory):
    call(flags(tmp_path / "run", records_directory, train__epochs=1), NNX_GRAPH_MODE="false", NNX_GRAPH_UPDATES="false")
    assert losses(tmp_path / "run") == losses(finished)[:2]


@pytest.mark.parametrize("change, expected", [
    ({"model__widht": 8}, ["--config.model.widht: the config has no such field", "--config.model.width"]),
    ({"modle__width": 8}, ["--config.modle.width: the config has no such field", "--config.model.width"]),
    ({"model__width": "wide"}, ["config.model.width", "wide"]),
    ({"eval__weights": "bset"}, ["config.eval.weights='bset'", "last, best, untrained"]),
    ({"data__records": "/nowhere"}, ["/nowhere", "data_prep/build_tfrecords.py"]),
    ({"data__identities": 9}, ["config.data.identities=9", "at most 8"]),
    ({"model__pretrained": "/nowhere.pth"}, ["/nowhere.pth"])])
def test_bad_settings_are_named_with_a_remedy(tmp_path, records_directory, change, expected, fail):
    more = ["--mode=evaluate"] if "eval__weights" in change else []
    error = fail(flags(tmp_path / "run", records_directory, *more, **change))
    assert all(text in error for text in expected), error
    assert not (tmp_path / "run/checkpoints/last").exists() or not any((tmp_path / "run/checkpoints/last").iterdir())


@pytest.mark.parametrize("arguments, expected", [
    (["--config=configs/quickstart.py:c3d", "--workdir=x"], "variant 'c3d': choose one of c2d, nonlocal"),
    (["--config=configs/none.py", "--workdir=x"], "configs/none.py: no such file"),
    (["--config=marz", "--workdir=x"], "write a path, or one of dukev, ide, mars, mars_pod, quickstart"),
    (["--config=", "--workdir=x"], "--config=: no such file"),
    (["--config=configs/mars.py", "--config=configs/ide.py", "--workdir=x"], "configs/ide.py: give one config"),
    (["--workdir=x"], "--config is missing"), (["--config=mars"], "--workdir is missing"),
    (["--config=mars", "--workdir="], "--workdir= is empty"),
    (["--mode=search", "--query=x", "--gallery=x", "--top=0"], "--top=0: must be at least 1"),
    (["--mode=search", "--query=x"], "--gallery is missing"),
    (["--config=configs/mars.py", "--workdir=x", "--mode=tarin"], "--mode: invalid choice: 'tarin': choose one of"),
    (["--config=configs/mars.py", "--workdir=x", "--config.data.image_size=64,32", "--config.data.image_size=50,30"],
     "--config.data.image_size is given 2 times"),
    (["--config=configs/mars.py", "--workdir=x", "config.seed=3"], "unexpected argument 'config.seed=3'"),
    (["--config=configs/mars.py", "--workdir=x"], "--config.data.records=FOLDER")])
def test_bad_flags_are_named(arguments, expected, fail):
    assert expected in fail(arguments)
    assert not (REPOSITORY / "x").exists()


@pytest.mark.parametrize("content, expected", [
    ("seed = 3", "KeyError: 'get_config'"), ("[1, 2", "SyntaxError"), ("\n\nimport not_there", "line 3"),
    ("get_config = dict", "must return a ConfigDict with the sections model, data")])
def test_files_that_are_no_configs_are_named(tmp_path, content, expected, fail):
    path = tmp_path / "own.py"
    path.write_text(content)
    error = fail([f"--config={path}", f"--workdir={tmp_path / 'run'}"])
    assert f"--config={path}: " in error and expected in error and "configs/mars.py" in error


def test_help_answers_and_lists_the_fields(done):
    text = done(["--help"])
    groups = [text.index(title) for title in ("What to do", "The network (", "For --mode=extract", "For --mode=search")]
    assert groups == sorted(groups) and groups[1] < text.index("  --workdir ") < groups[2] < text.index("  --format ")
    assert max(map(len, text.splitlines())) <= 120 and "--verbosity" not in text
    for config in (["--config=configs/mars.py"], ["--config", "configs/mars.py", "--mode=extract"], ["--config=mars"]):
        assert "--config.optim.learning_rate=0.0001" in done(["--help", *config])
