"""The code in the README and in docs/: Python runs, every command parses, and what nothing checks says why not."""

import argparse
import doctest
import pkgutil
import re
import runpy
import shlex
import sys
import textwrap
import warnings
from functools import cache, partial
from pathlib import Path
from unittest import mock

import cv2
import jax
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import main, models, weights
from cfaan_jax.deploy import export
from cfaan_jax.errors import InputError
from cfaan_jax.experiment.checkpoint import Checkpoints, TrainingProgress
from cfaan_jax.experiment.config import create_model, save_or_check_config
from cfaan_jax.experiment.fields import check as check_config
from cfaan_jax.experiment.recipes import recipe
from cfaan_jax.models import registry
from data_prep import build_tfrecords
from data_prep.redetect_link import alignment
from tests.documented import REPOSITORY, blocks, calls, inside, sentences

# Blocks that are neither run nor parsed, by page and first line, and why not.
UNCHECKED = {
    ("docs/use/weights.md", 'model.load_state_dict(safetensors.torch.load_file("network.safetensors"))'):
        "needs PyTorch and the code of the network's authors",
    ("docs/use/weights.md", "import tensorflow as tf"):
        "needs what the command before it writes; see tests/deploy/test_export.py"}
SMALL = dict(width=8, depths=(1, 1, 1, 1))
TORCH_FILES = {"checkpoint.pth": "cfaan", "fastreid.pth": "c2d"}  # and the network in it
LIBRARY = "docs/use/library.md"
SIZE = dict(clip_length=2, image_size=(64, 32))
PYTHON = [block for block in blocks() if block.language == "python" and block.name not in UNCHECKED]
SHELL = [block for block in blocks() + sentences() if block.language == "bash" and block.name not in UNCHECKED]


def test_every_block_is_checked_or_says_why_not():
    names = {block.name: block.language for block in blocks()}
    unchecked = {name for name, language in names.items() if language not in ("python", "bash")}
    assert unchecked <= set(UNCHECKED), f"mark these as python or bash, or say why not: {unchecked - set(UNCHECKED)}"
    assert set(UNCHECKED) <= set(names)


# ---- Python


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A workdir with an export, of a small network."""
    config, workdir = recipe("c2d"), tmp_path_factory.mktemp("mars")
    config.model.update(SMALL)
    config.data.update(SIZE)
    model = create_model(config, 3)
    save_or_check_config(config, workdir)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save("last", TrainingProgress(1, 3), model=nnx.state(model))
    export.write(model, config, workdir / "export-last", "last")
    return workdir


def images() -> np.ndarray:
    """Two images of one person, of whom there is a picture in the middle of a video, too."""
    person = np.random.default_rng(0).integers(0, 256, (80, 40, 3), np.uint8)
    Path("a").mkdir()
    for name in ("001", "002"):
        cv2.imwrite(f"a/{name}.jpg", person)
    return person


def for_readme() -> dict:
    images()
    return {"array": np.ones((3, 50, 25, 3), np.uint8)}


def for_library() -> dict:
    frame = np.zeros((100, 96, 3), np.uint8)
    frame[10:90, 20:60] = images()
    video = cv2.VideoWriter("street.avi", cv2.VideoWriter_fourcc(*"FFV1"), 10, (96, 100))
    for _ in range(2):
        video.write(frame)
    video.release()
    return {}


def for_protocols() -> dict:
    for name, count in (("query", 4), ("gallery", 9)):
        np.save(f"{name}.npy", np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32))
    return {"q_pids": [1, 2, 3, 4], "g_pids": [1, 2, 3, 4, 1, 2, 3, 4, 0], "q_camids": [1] * 4, "g_camids": [2] * 9}


PREPARED = {
    "README.md": for_readme, "docs/use/library.md": for_library, "docs/evaluate/protocols.md": for_protocols,
    "docs/use/weights.md": lambda: {"clips": np.zeros((1, 2, 64, 32, 3), np.float32)},
    "docs/extend/system.md": lambda: {name: getattr(registry, name) for name in (  # what that file imports already
        "HeadSettings", "System", "TorchLayout", "whole_average", "SYSTEMS")}}


def check_system(names: dict) -> None:
    """The system of the page gives features, and its weights go to torch's names and back."""
    model = names["model"]
    assert model.features(np.zeros((1, 2, 64, 32, 3), np.float32)).shape == (1, model.feature_size)
    state = weights.to_torch(model)
    assert [name for name in state if name.endswith("mixing.weight")]
    weights.load_torch(model, state)


def check_reader(names: dict) -> None:
    """The reader of the page finds a tracklet in each split."""
    for split in ("train", "query", "gallery"):
        folder = Path("shop", split, "7", "2")
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"frame")
    tracklets = names["open"](Path("shop")).tracklets
    assert [(tracklet.split, tracklet.pid, tracklet.camid, tracklet.read(0)) for tracklet in tracklets] == [
        (split, 7, 2, b"frame") for split in ("train", "query", "gallery")]


THEN = {"docs/extend/system.md": check_system, "docs/extend/data_sets_and_protocols.md": check_reader}


def torch_file(path: Path) -> dict:
    """What the .pth files of the pages hold; that such files are read is tested elsewhere."""
    state = weights.to_torch(models.create(TORCH_FILES[path.name], num_classes=625))
    if path.name == "fastreid.pth":
        state = {name.replace("base.", "backbone."): array for name, array in state.items()} | {"heads.weight": 0}
    return {"model": state}


@pytest.fixture
def in_small(monkeypatch, tmp_path, trained, records_directory):
    """Networks of any size become small ones, .pth files hold those, and all lies where the pages have it.

    A call for features of clips is traced, not computed: operation by operation that would take a minute to compile.
    """
    create, features = models.create, models.VideoReID.features
    monkeypatch.setattr(models, "create", lambda name, **options: create(name, **options | SMALL | SIZE))
    monkeypatch.setattr(models.VideoReID, "features",
                        lambda model, *clips: jax.eval_shape(partial(features, model), *clips))
    monkeypatch.setattr(weights.files, "_read_torch", torch_file)
    for name in TORCH_FILES:
        Path(tmp_path, name).touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mars").symlink_to(trained)
    (tmp_path / "records").symlink_to(records_directory)
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(registry.SYSTEMS):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in PYTHON))
def test_python_runs(page, in_small):
    names = PREPARED.get(page, dict)()
    for block in (block for block in PYTHON if block.page == page):
        code = textwrap.dedent(block.content)
        if code.startswith(">>> "):
            example = doctest.DocTestParser().get_doctest(code, names, f"{page}:{block.line}", page, block.line)
            assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, clear_globs=False).failed == 0
            names.update(example.globs)
            continue
        if code.startswith('"') and not code.startswith('"""'):  # an entry of the registry
            code = f"SYSTEMS |= {{{code}}}"
        exec(compile("\n" * (block.line - 1) + code, page, "exec"), names)
    THEN.get(page, lambda names: None)(names)


@pytest.mark.parametrize("name", dict.fromkeys(  # the names that the page lists
    token.content for page, token, _ in inside("code_inline")
    if page == LIBRARY and re.fullmatch(r"cfaan_jax(\.\w+)+", token.content)))
def test_examples_of_the_library_run(name, capsys):
    examples = doctest.DocTestFinder(recurse=False).find(pkgutil.resolve_name(name), name, globs={})
    if any(example.examples for example in examples):
        [example] = examples
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0, capsys.readouterr().out
    else:  # then that page has one
        owner, last = name.split(".")[-2:]
        called = f"{owner}.{last}" if owner != owner.lower() else last
        assert any(re.search(rf"\b{called}\b", block.content) for block in PYTHON if block.page == LIBRARY)


# ---- commands


class Parsed(Exception):
    """Raised where a command has parsed its flags and would begin to work."""


@cache
def check_main(*arguments: str) -> None:
    _, config = main.parse(arguments)
    if config is not None:
        config.eval.corrections = ""  # would have to exist
        check_config(config)


@cache
def check_build(*arguments: str) -> None:
    flags = build_tfrecords.parse(list(arguments))
    build_tfrecords._dataset_options(flags)
    build_tfrecords._check(flags, alignment.settings_from(flags))


@cache
def check_module(module: str, *arguments: str) -> None:
    """Starts a module, and stops it after its flags."""
    known = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser, args=None, namespace=None):
        _, rest = known(parser, args, namespace)
        if module == "benchmarks.data_prep":
            check_build("--out=records", *rest)
        else:
            assert all(argument.startswith("--config.") for argument in rest), f"{module}: {rest}"
        raise Parsed

    def parse_args(parser, args=None, namespace=None):
        if rest := known(parser, args, namespace)[1]:
            parser.error(f"unrecognised: {rest}")
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # most modules are imported already
        patch.setattr(sys, "argv", [module, *arguments])
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
        with pytest.raises(Parsed):
            runpy.run_module(module, run_name="__main__")


def check(call: list[str]) -> None:
    """Fails for a command that would be refused, or that nothing here knows."""
    match call:
        case ["python", "-m", "cfaan_jax.main", *rest] | ["cfaan", *rest]:
            check_main(*rest)
        case ["python", "data_prep/build_tfrecords.py", *rest] | ["cfaan-build-records", *rest]:
            check_build(*rest)
        case ["python", "-m", "pytest", *_] | ["ruff", "check", "."] | ["mypy", *_]:
            pass
        case ["python", "-m", module, *rest]:
            check_module(module, *rest)
        case ["python", "docs/pictures.py" as file, _] | ["kubectl", "apply", "-f", file]:
            assert (REPOSITORY / file).is_file(), file
        case ["pip", "install", *rest] | ["pip-audit", *rest]:
            for file in (value for flag, value in zip(rest, rest[1:], strict=False) if flag == "-r"):
                assert (REPOSITORY / file).is_file(), file
        case ["sbatch", *rest]:
            assert "launch/slurm.sh" in rest
            check_main(*rest[rest.index("launch/slurm.sh") + 1:])
        case ["mkdocs", "build" | "serve", *rest]:
            assert set(rest) <= {"--strict"}
        case _:
            pytest.fail(f"nothing here checks this command: {shlex.join(call)}")


@pytest.mark.parametrize("block", SHELL, ids=lambda block: f"{block.page}:{block.line}")
def test_commands_parse(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    commands = calls(block.content, tmp_path)
    assert commands, "this block comes to no command"
    for call in commands:
        try:
            check(call)
        except SystemExit as end:  # 0: --help
            assert not end.code, f"{shlex.join(call)}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("call, words", [
    (["cfaan", "--mode=search", "--query=a"], "--gallery is missing"),
    (["cfaan", "--config=configs/mars.py", "--workdir=a", "--config.model.wodth=1"], "no such field"),
    (["cfaan-build-records", "--dataset=mars", "--root=a", "--out=b", "--detectors=hog"], "--detectors"),
    (["python", "-m", "cfaan_jax.report.summary", "--out=a", "--to=b", "c.json"], "--to=b")])
def test_a_wrong_command_is_refused(call, words, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises((SystemExit, InputError)) as refused:
        check(call)
    assert words in capsys.readouterr().err + str(refused.value)
