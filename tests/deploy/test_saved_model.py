"""An exported network as a SavedModel: TensorFlow alone computes the same features from it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cfaan_jax.deploy import export, saved_model
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate.features import features_of
from cfaan_jax.experiment.config import create_model
from tests.deploy.test_export import clips, same, shrunk

tensorflow = pytest.importorskip("tensorflow")
ALONE = """
import sys
sys.modules["cfaan_jax"] = sys.modules["jax"] = sys.modules["flax"] = None  # importing them fails
import numpy, tensorflow
network, given = tensorflow.saved_model.load(sys.argv[1]), numpy.load(sys.argv[2])
numpy.save(sys.argv[3], network.features(given["frames"], given["rectangles"]))
"""


@pytest.mark.parametrize("variant, length", [("axial_s2", 4), ("p3d", 3)])
def test_tensorflow_alone_gets_the_same_features(tmp_path, variant, length):
    config = shrunk(variant)
    model = create_model(config, num_classes=3)
    written = saved_model.write(export.write(model, config, tmp_path / "export", "untrained"))
    frames, rectangles = clips(5, length=length)
    np.savez(tmp_path / "given.npz", frames=frames, rectangles=rectangles)
    subprocess.run([sys.executable, "-I", "-c", ALONE, written, tmp_path / "given.npz", tmp_path / "found.npy"],
                   check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
    same(np.load(tmp_path / "found.npy"), features_of(model)(frames, rectangles))


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=f"{tmp_path}: no exported network"):
        saved_model.write(tmp_path)
    config = shrunk("c2d")
    folder = export.write(create_model(config, num_classes=3), config, tmp_path / "export", "untrained")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(InputError, match="needs tensorflow; pip install tensorflow"):
            saved_model.write(folder)
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="saved_model is not written: its features differ"):
        saved_model.write(folder)
    assert not list(folder.glob("saved_model*"))
