"""Linking: the rule of the paper worked out by hand, ties, gaps, and the linkers."""

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from cfaan_jax import models, weights
from cfaan_jax.data import augment
from cfaan_jax.experiment.checkpoint import Checkpoints, TrainingProgress
from cfaan_jax.experiment.config import save_or_check_config
from cfaan_jax.experiment.recipes import ide_recipe
from data_prep.redetect_link import linkers, linking
from tests.data_prep.checks import check_refused


def boxes(*sizes):
    return np.array([(0, height, 0, width) for height, width in sizes], np.float32).reshape(-1, 4)


def features(*rows):
    return np.array(rows, np.float32).reshape(len(rows), -1)


def test_moving_average_keeps_nine_tenths():
    frames = [features([0.0]), features([1.0]), features([0.14], [0.07])]
    # after two frames the average is 0.9 * 0 + 0.1 * 1 = 0.1: 0.07 is nearer than 0.14
    sizes = [boxes((5, 5)), boxes((5, 5)), boxes((5, 5), (5, 5))]
    choices, distances = linking.link(frames, sizes)
    assert choices == [0, 0, 1]
    np.testing.assert_allclose(np.concatenate(distances), [0, 1, 0.04, 0.03], atol=1e-6)
    # with momentum 0 only the last feature, 1, counts
    assert linking.link(frames, sizes, momentum=0.0)[0] == [0, 0, 0]


def test_ties_go_to_the_larger_box_then_to_the_first():
    assert linking.link([features([1.0], [2.0])], [boxes((8, 4), (4, 8))])[0] == [0]
    assert linking.link([features([0.0]), features([1.0], [-1.0])], [boxes((5, 5)), boxes((5, 5), (6, 5))])[0] == [0, 1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_every_choice_is_the_nearest_to_the_average_of_the_choices_before(counts, momentum, seed):
    rng = np.random.default_rng(seed)
    frames = [rng.normal(size=(count, 3)).astype(np.float32) for count in counts]
    sizes = [boxes(*rng.uniform(1, 9, (count, 2))) for count in counts]
    choices, distances = linking.link(frames, sizes, momentum)
    assert [len(row) for row in distances] == counts
    average = None
    for rows, frame_boxes, choice in zip(frames, sizes, choices, strict=True):
        if not len(rows):
            assert choice is None
            continue
        if average is None:
            assert choice == np.argmax(frame_boxes[:, 1] * frame_boxes[:, 3])
            average = rows[choice].astype(float)
        else:
            assert choice == np.argmin(((rows - average) ** 2).sum(axis=1))
            average = momentum * average + (1 - momentum) * rows[choice]


@pytest.mark.parametrize("spec", ["", "nearest", "ide", "ide:", "largest:x"])
def test_unknown_linker_names_the_known_ones(spec):
    check_refused(r"choose ide:<workdir .* or largest", linkers.create, spec)


def write_workdir(workdir, clip_length=1):
    """The workdir of a narrow, untrained IDE classifier."""
    config = ide_recipe()
    config.data.update(records="unused", image_size=(32, 16), clip_length=clip_length)
    config.model.update(width=4, depths=(1, 1, 1, 1))
    save_or_check_config(config, workdir)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save("last", TrainingProgress(step=3, num_classes=5), model=nnx.state(network(clip_length)))
    return workdir


def network(clip_length=1):
    return models.create("ide", num_classes=5, clip_length=clip_length, image_size=(32, 16), width=4,
                         depths=(1, 1, 1, 1), seed=0)


def features_of(model, crops):
    height, width = crops[0].shape[:2]
    whole = np.tile(np.array([0, height, 0, width], np.int32), (len(crops), 1, 1))
    return model.features(*augment.prepare(np.stack(crops)[:, None], whole))


@pytest.mark.slow
def test_ide_gives_the_checkpoints_features_in_any_number(tmp_path):
    linker = linkers.create(f"ide:{write_workdir(tmp_path)}")
    crops = list(np.random.default_rng(0).integers(0, 256, (35, 32, 16, 3), dtype=np.uint8))
    result, expected = linker.features(crops), features_of(network(), crops)
    assert result.dtype == np.float32 and result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * float(jax.numpy.abs(expected).max()))
    np.testing.assert_allclose(linker.features(crops[3:5]), result[3:5], rtol=1e-5, atol=1e-6)


def test_ide_stretches_crops_of_any_size(tmp_path):
    grey = [np.full((height, width, 3), 90, np.uint8) for height, width in ((32, 16), (7, 50), (200, 1))]
    result = linkers.create(f"ide:{write_workdir(tmp_path)}").features(grey)
    np.testing.assert_allclose(result[1:], result[:1].repeat(2, axis=0), rtol=1e-5)


@pytest.mark.slow
def test_any_resnet_50_with_torchs_names_links(tmp_path, monkeypatch):
    monkeypatch.setattr(linkers, "_BATCH", 2)  # the network has its full size
    model = models.create("ide", num_classes=7, clip_length=1, seed=3)
    named = {name.removeprefix("base."): array for name, array in weights.to_torch(model).items()}
    named["fc.weight"] = np.zeros((1000, 2048), np.float32)
    save_file(named, tmp_path / "resnet50.safetensors")
    linker = linkers.create(f"torch:{tmp_path / 'resnet50.safetensors'}")
    crops = [np.random.default_rng(k).integers(0, 256, (256, 128, 3), dtype=np.uint8) for k in range(2)]
    np.testing.assert_allclose(linker.features(crops), features_of(model, crops), rtol=1e-3, atol=1e-4)


def test_folders_without_a_checkpoint_and_other_networks_are_refused(tmp_path):
    check_refused("nowhere", linkers.create, f"ide:{tmp_path / 'nowhere'}")
    workdir, other = write_workdir(tmp_path / "clips", clip_length=4), tmp_path / "other.safetensors"
    check_refused(r"clips of 4 frames.*configs/ide.py", linkers.create, f"ide:{workdir}")
    save_file({"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)}, other)
    check_refused(r"other.safetensors does not fit the model", linkers.create, f"torch:{other}")
