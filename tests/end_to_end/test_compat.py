"""What an earlier commit wrote still opens, resumes and scores.

tests/compat/f2b33fd.tar.xz holds, from that commit and on a CPU: records/ of noisy colours; run/, a workdir that was
trained with FLAGS, stopped by SIGTERM after 6 of its 8 steps, then evaluated and exported; and finished/metrics.csv of
the same run without a stop.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest

from cfaan_jax import FeatureExtractor
from cfaan_jax.data.records import RecordSet
from tests.workdirs import losses, results

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
NETWORK, SIZES = dict(width=2, depths=(1, 1, 1, 1)), dict(clip_length=2, image_size=(32, 16))
FLAGS = [f"--config={REPOSITORY}/configs/mars.py:axial_s2", "--workdir=run", *(f"--config.{field}" for field in (
    "model.pretrained=none", "model.width=2", "model.depths=(1,1,1,1)", "data.records=records",
    "data.image_size=(32,16)", "data.clip_length=2", "data.identities=2", "data.tracklets=2", "data.workers=1",
    "train.epochs=4", "train.checkpoint_every=2", "train.evaluate_every=2", "train.evaluate_clips=test_0",
    "train.loggers=()", "optim.learning_rate=1e-3", "eval.batch=4", "eval.protocols=mars", "eval.report_lists=1"))]


@pytest.fixture
def earlier(tmp_path, monkeypatch) -> Path:
    """The folder that the earlier commit wrote, which is the current one for the test."""
    with tarfile.open(REPOSITORY / "tests/compat/f2b33fd.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(mode: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-m", "cfaan_jax.main", *FLAGS, f"--mode={mode}"], env=environment,
                          capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_workdir_export_and_weights_give_the_stored_features(earlier):
    stored = np.load("run/features-last-all_sampled.npz")
    splits = [RecordSet.open("records", split) for split in ("query", "gallery")]
    assert [name for split in splits for name in split.names] == stored["names"].tolist()
    for extractor in (
            FeatureExtractor.open("run"), FeatureExtractor.open("run/export-last", batch_size=4),
            FeatureExtractor.open("run/export-last/network.safetensors", name="cfaan", batch_size=4, **SIZES,
                                  network=NETWORK | dict(scales=2))):
        features = np.concatenate([extractor(split).features for split in splits])
        np.testing.assert_allclose(features, stored["features"], rtol=0, atol=1e-4 * np.abs(stored["features"]).max())


def test_the_onnx_file_computes_what_the_stablehlo_file_computes(earlier):
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 32, 16, 3), dtype=np.uint8)
    rectangles = np.tile(np.array([4, 30, 2, 16], np.int32), (3, 2, 1))
    network = jax.export.deserialize(bytearray(Path("run/export-last/network.stablehlo").read_bytes()))
    session = onnxruntime.InferenceSession("run/export-last/network.onnx", providers=["CPUExecutionProvider"])
    [features] = session.run(None, {"frames": frames, "rectangles": rectangles})
    np.testing.assert_allclose(network.call(frames, rectangles), features, rtol=0, atol=1e-4 * np.abs(features).max())


def test_the_stopped_run_scores_as_before_and_resumes_as_if_it_was_not_stopped(earlier):
    [row] = results(Path("run"))
    assert "| mars" in command("evaluate")
    [again] = results(Path("run"))
    assert {name: again[name] for name in row} == row
    command("train")
    assert len(losses(Path("run"))) == 8
    np.testing.assert_allclose(losses(Path("run")), losses(Path("finished")), rtol=1e-3)
    assert {row["weights"] for row in results(Path("run"))} == {"last", "best"}
