"""Exported networks compute the features of the network that they come from, and are not written where they do not."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from cfaan_jax import FeatureExtractor, weights
from cfaan_jax.data.records import RecordSet
from cfaan_jax.deploy import export, saved_model
from cfaan_jax.deploy.exported import ExportedNetwork
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate import features
from cfaan_jax.experiment.config import create_model
from cfaan_jax.experiment.recipes import recipe
from cfaan_jax.runtime import lock
from tests.data_prep.checks import check_refused

pytestmark = pytest.mark.slow

ALONE = """
import json, pathlib, sys
sys.modules["cfaan_jax"] = sys.modules["flax"] = None  # importing them fails
import jax.export, numpy
for folder in map(pathlib.Path, sys.argv[1:]):
    network = jax.export.deserialize(bytearray((folder / "network.stablehlo").read_bytes()))
    assert network.platforms == ("cpu", "cuda", "tpu")
    given = numpy.load(f"{folder.name}.npz")
    numpy.save(f"{folder.name}.npy", network.call(given["frames"], given["rectangles"]))
"""
VARIANTS = ("axial_s2", "tclnet", "p3d")


def shrunk(variant: str, seed: int = 0, **model):
    config = recipe(variant)
    config.seed = seed
    config.model.update(dict(width=8, depths=(1, 1, 1, 1), pretrained="none") | model)
    config.data.update(dict(clip_length=4, image_size=(64, 32)))
    return config


def clips(count: int, length: int = 4) -> tuple[np.ndarray, np.ndarray]:
    frames = np.random.default_rng(7).integers(0, 256, (count, length, 64, 32, 3), dtype=np.uint8)
    return frames, np.tile(np.array([16, 64, 0, 16], np.int32), (count, length, 1))


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Networks with the folders of their exports."""
    networks = {}
    for variant in VARIANTS:
        config = shrunk(variant)
        model = create_model(config, num_classes=3)
        networks[variant] = model, export.write(model, config, tmp_path_factory.mktemp("export") / variant, "untrained")
    return networks


def test_a_process_without_this_package_gets_the_same_features(made, tmp_path):
    given = {"axial_s2": clips(5), "tclnet": clips(5), "p3d": clips(5, length=3)}
    for variant, (frames, rectangles) in given.items():
        np.savez(tmp_path / f"{variant}.npz", frames=frames, rectangles=rectangles)
    subprocess.run([sys.executable, "-I", "-c", ALONE, *(made[variant][1] for variant in VARIANTS)], cwd=tmp_path,
                   check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    for variant in VARIANTS:
        same(np.load(tmp_path / f"{variant}.npy"), features.features_of(made[variant][0])(*given[variant]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_onnx_file_gives_the_same_features_for_any_number_of_clips(made, variant):
    model, folder = made[variant]
    session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["description"] == (folder / "network.json").read_text()
    for count in (1, 5):
        frames, rectangles = clips(count)
        [found] = session.run(None, {"frames": frames, "rectangles": rectangles})
        same(found, features.features_of(model)(frames, rectangles))


def test_without_an_onnx_file_the_reason_is_told(made, monkeypatch):
    config = shrunk("c2d", compute="bfloat16")
    narrow = create_model(config, num_classes=3)
    content, reason = export.onnx(narrow, export.describe(narrow, config, "last"), "")
    assert content is None and "numbers of type bfloat16" in reason
    for name in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patched:
            patched.delitem(sys.modules, "cfaan_jax.deploy.jaxpr_to_onnx")
            patched.delattr("cfaan_jax.deploy.jaxpr_to_onnx")
            patched.setitem(sys.modules, name, None)
            content, reason = export.onnx(narrow, export.describe(narrow, config, "last"), "")
        assert content is None and reason.startswith(f"it needs {name}; pip install -r data_prep/requirements-onnx.txt")


def test_the_description_says_how_to_compare(made):
    described = {variant: json.loads((folder / "network.json").read_text()) for variant, (_, folder) in made.items()}
    assert [(about["branches"], about["masks"], about["any_length"]) for about in described.values()] == [
        (1, True, False), (2, False, False), (1, False, True)]
    assert described["tclnet"]["inputs"][0]["shape"] == ["clips", 4, 64, 32, 3]
    assert described["p3d"]["output"]["shape"] == ["clips", made["p3d"][0].feature_size]


@pytest.mark.parametrize("variant, how", [("tclnet", "dense"), ("p3d", "dense_cut")])
def test_an_extractor_from_an_export_gives_the_features_of_an_evaluation(made, records_directory, variant, how):
    model, folder = made[variant]
    gallery = RecordSet.open(records_directory, "gallery")
    expected = features.extract(model, gallery, clips=how, clip_length=4, image_size=(64, 32), batch_size=8)
    same(FeatureExtractor.from_export(folder, batch_size=8, clips=how)(gallery).features, expected)


@pytest.mark.parametrize("broken, file", [
    ("stablehlo", "network.stablehlo"), ("to_torch", "network.safetensors"), ("onnx", "network.onnx")])
def test_an_export_that_differs_is_not_written(made, tmp_path, monkeypatch, broken, file):
    model, folder = made["p3d"]
    if broken != "to_torch":
        other, right = create_model(shrunk("p3d", seed=1), num_classes=3), getattr(export, broken)
        monkeypatch.setattr(export, "stablehlo", lambda *_: (folder / "network.stablehlo").read_bytes())
        monkeypatch.setattr(export, broken, lambda _, *description: right(other, *description))
    else:
        state = weights.to_torch(model)
        state["bn1.weight"] = 1.1 * state["bn1.weight"]
        monkeypatch.setattr(weights, "to_torch", lambda _: state)
    with pytest.raises(InputError, match=f"{file} is not written: its features differ"):
        export.write(model, shrunk("p3d"), tmp_path / "export", "last")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_full_disk_leaves_no_export(made, tmp_path, monkeypatch, kept):
    """Files are refused behind the first ones. What is compared in between needs no disk."""
    model, folder = made["p3d"]
    monkeypatch.setattr(export, "stablehlo", lambda *_: (folder / "network.stablehlo").read_bytes())
    monkeypatch.setattr(export, "onnx", lambda *_: ((folder / "network.onnx").read_bytes(), ""))
    monkeypatch.setattr(export, "features_of", lambda _: lambda frames, rectangles: np.ones(1))
    for name in ("check_features", "_reloaded", "_run_onnx", "ExportedNetwork"):
        monkeypatch.setattr(export, name, lambda *_: lambda *_: None)
    write_bytes, written = Path.write_bytes, []

    def refuse(path, content):
        written.append(path)
        if len(written) > kept:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", refuse)
        with pytest.raises(OSError, match="No space left on device: '.*export'"):
            export.write(model, shrunk("p3d"), tmp_path / "export", "last")
    assert list(tmp_path.iterdir()) == []
    assert export.write(model, shrunk("p3d"), tmp_path / "export", "last").is_dir()


def test_what_else_lies_in_the_folder_and_who_else_writes_there_is_named(made, tmp_path, capsys):
    model, copy = made["p3d"][0], shutil.copytree(made["p3d"][1], tmp_path / "export")
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="export: holds notes.txt, which is not part of an export"):
        export.write(model, shrunk("p3d"), copy, "last")
    (copy / "notes.txt").rename(copy / "saved_model")
    with (lock.exclusive(tmp_path / ".export.lock", "exports"),
          pytest.raises(InputError, match=f"process {os.getpid()}")):
        export.write(model, shrunk("p3d"), copy, "last")
    assert len(list(copy.iterdir())) == 5
    export.write(model, shrunk("p3d"), copy, "last")
    assert not (copy / "saved_model").exists() and "deleted with the older export" in capsys.readouterr().out


def flip_a_bit(network: Path) -> None:
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 64
    network.write_bytes(content)


@pytest.mark.parametrize("file, damage, words", [
    ("network.json", Path.unlink, "no exported network"),
    ("network.json", lambda path: path.write_text("{}"), "damaged"),
    ("network.stablehlo", lambda path: path.write_bytes(b"\0" * 99), "damaged"),
    ("network.stablehlo", flip_a_bit, "network.stablehlo is not the file that was written"),
    *(("network.json", lambda path, change=change: path.write_text(json.dumps(json.loads(path.read_text()) | change)),
       "the exported network is damaged") for change in (
        {"clips": "zz"}, {"clip_length": 0}, {"clip_length": "2"}, {"branches": 3}, {"image_size": [64]},
        {"distance": "zz"}, {"any_length": "no"}, {"image_size": ["a", "b"]}))])
def test_a_damaged_export_is_refused(tmp_path, made, file, damage, words):
    copy = shutil.copytree(made["p3d"][1], tmp_path / "export")
    damage(copy / file)
    check_refused(words, ExportedNetwork.open, copy)


def test_a_description_comes_back_as_it_was(made):
    model, folder = made["tclnet"]
    assert ExportedNetwork.open(folder).description == export.describe(model, shrunk("tclnet"), "untrained")


TENSORFLOW_ALONE = """
import sys
sys.modules["cfaan_jax"] = sys.modules["jax"] = sys.modules["flax"] = None  # importing them fails
import numpy, tensorflow

network, given = tensorflow.saved_model.load(sys.argv[1]), numpy.load(sys.argv[2])
numpy.save(sys.argv[3], network.features(given["frames"], given["rectangles"]))
"""


def write_saved_model(folder):
    """Skips where the installed TensorFlow is older than the installed jax."""
    try:
        return saved_model.write(folder)
    except InputError as error:
        if "cannot run programs of jax" not in str(error):
            raise
        pytest.skip(str(error).partition(": ")[2])


@pytest.mark.parametrize("variant, length", [("axial_s2", 4), ("p3d", 3)])
def test_tensorflow_alone_gets_the_same_features(made, tmp_path, variant, length):
    pytest.importorskip("tensorflow")
    written = write_saved_model(shutil.copytree(made[variant][1], tmp_path / "export"))
    frames, rectangles = clips(5, length=length)
    np.savez(tmp_path / "given.npz", frames=frames, rectangles=rectangles)
    subprocess.run([sys.executable, "-I", "-c", TENSORFLOW_ALONE, written, tmp_path / "given.npz", tmp_path / "a.npy"],
                   check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
    same(np.load(tmp_path / "a.npy"), features.features_of(made[variant][0])(frames, rectangles))


def test_a_saved_model_that_cannot_be_written_is_named(made, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    check_refused(f"{tmp_path}: no exported network", saved_model.write, tmp_path)
    folder = shutil.copytree(made["p3d"][1], tmp_path / "export")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "tensorflow", None)
        check_refused("needs tensorflow; pip install tensorflow", saved_model.write, folder)
    write_saved_model(folder)
    shutil.rmtree(folder / "saved_model")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    check_refused("saved_model is not written: its features differ", saved_model.write, folder)
    assert not list(folder.glob("saved_model*"))
