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
from cfaan_jax.errors import InputError
from cfaan_jax.experiment.checkpoint import Checkpoints, TrainingProgress
from cfaan_jax.experiment.config import save_or_check_config
from cfaan_jax.experiment.recipes import ide_recipe
from data_prep.redetect_link import linkers, linking


def boxes(*sizes):
    return np.array([(0, height, 0, width) for height, width in sizes], np.float32).reshape(-1, 4)


def features(*rows):
    return np.array(rows, np.float32).reshape(len(rows), -1)


def test_starts_with_the_largest_box_and_follows_the_nearest_feature():
    chosen, _ = linking.link([features([0, 0], [9, 9]), features([0, 0], [9, 8])],
                          [boxes((10, 5), (20, 10)), boxes((90, 50), (3, 2))])
    assert chosen == [1, 1]  # the second frame's large box is somebody else


def test_moving_average_keeps_nine_tenths():
    frames = [features([0.0]), features([1.0]), features([0.14], [0.07])]
    # after two frames the average is 0.9 * 0 + 0.1 * 1 = 0.1: 0.07 is nearer than 0.14
    sizes = [boxes((5, 5)), boxes((5, 5)), boxes((5, 5), (5, 5))]
    choices, distances = linking.link(frames, sizes)
    assert choices == [0, 0, 1]
    np.testing.assert_allclose(np.concatenate(distances), [0, 1, 0.04, 0.03], atol=1e-6)
    # with momentum 0 only the last feature, 1, counts
    assert linking.link(frames, sizes, momentum=0.0)[0] == [0, 0, 0]


def test_frames_without_candidates_are_skipped():
    nobody = np.zeros((0, 1), np.float32)
    frames = [nobody, features([0.0], [5.0]), nobody, features([0.0], [5.0])]
    sizes = [boxes(), boxes((4, 4), (6, 6)), boxes(), boxes((9, 9), (6, 6))]
    choices, distances = linking.link(frames, sizes)
    assert choices == [None, 1, None, 1] and [len(row) for row in distances] == [0, 2, 0, 2]


def test_ties_go_to_the_larger_box_then_to_the_first():
    assert linking.link([features([1.0], [2.0])], [boxes((8, 4), (4, 8))])[0] == [0]
    frames = [features([0.0]), features([1.0], [-1.0])]
    assert linking.link(frames, [boxes((5, 5)), boxes((5, 5), (6, 5))])[0] == [0, 1]


def test_largest_takes_the_largest_box_of_every_frame():
    linker = linkers.create("largest")
    sizes = [boxes((3, 3), (5, 5)), boxes((9, 9), (5, 5)), boxes((1, 1))]
    crops = [[np.zeros((4, 4, 3), np.uint8)] * len(frame) for frame in sizes]
    assert linking.link([linker.features(frame) for frame in crops], sizes)[0] == [1, 0, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_every_choice_is_the_nearest_to_the_average_of_the_choices_before(counts, momentum, seed):
    rng = np.random.default_rng(seed)
    frames = [rng.normal(size=(count, 3)).astype(np.float32) for count in counts]
    sizes = [boxes(*rng.uniform(1, 9, (count, 2))) for count in counts]
    choices, _ = linking.link(frames, sizes, momentum)
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
    with pytest.raises(InputError, match=r"choose ide:<workdir .* or largest"):
        linkers.create(spec)


@pytest.fixture
def ide_workdir(tmp_path):
    """The workdir of a narrow, untrained IDE classifier."""
    return write_workdir(tmp_path / "ide", clip_length=1)


def write_workdir(workdir, clip_length):
    config = ide_recipe()
    config.data.records = "unused"
    config.data.image_size = (32, 16)
    config.data.clip_length = clip_length
    config.model.width = 4
    config.model.depths = (1, 1, 1, 1)
    save_or_check_config(config, workdir)
    model = network(clip_length)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save("last", TrainingProgress(step=3, num_classes=5), model=nnx.state(model))
    return workdir


def network(clip_length=1):
    return models.create("ide", num_classes=5, clip_length=clip_length, image_size=(32, 16), width=4,
                         depths=(1, 1, 1, 1), seed=0)


@pytest.mark.slow
def test_ide_gives_the_checkpoints_features_in_any_number(ide_workdir):
    linker = linkers.create(f"ide:{ide_workdir}")
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (32, 16, 3), dtype=np.uint8) for _ in range(35)]
    result = linker.features(crops)
    whole = np.tile(np.array([0, 32, 0, 16], np.int32), (35, 1, 1))
    clips, cells = augment.prepare(np.stack(crops)[:, None], whole)
    expected = network().features(clips, cells)
    assert result.dtype == np.float32 and result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4 * float(jax.numpy.abs(expected).max()))
    np.testing.assert_allclose(linker.features(crops[3:5]), result[3:5], rtol=1e-5, atol=1e-6)


def test_ide_stretches_crops_of_any_size(ide_workdir):
    linker = linkers.create(f"ide:{ide_workdir}")
    grey = [np.full((height, width, 3), 90, np.uint8) for height, width in ((32, 16), (7, 50), (200, 1))]
    result = linker.features(grey)
    np.testing.assert_allclose(result[1:], result[:1].repeat(2, axis=0), rtol=1e-5)


def test_ide_without_a_checkpoint_names_the_folder(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        linkers.create(f"ide:{tmp_path / 'nowhere'}")


def test_ide_refuses_a_network_of_longer_clips(tmp_path):
    workdir = write_workdir(tmp_path / "clips", clip_length=4)
    with pytest.raises(InputError, match=r"clips of 4 frames.*configs/ide.py"):
        linkers.create(f"ide:{workdir}")


@pytest.mark.slow
def test_any_resnet_50_with_torchs_names_links(tmp_path, monkeypatch):
    monkeypatch.setattr(linkers, "_BATCH", 2)  # the network has its full size
    model = models.create("ide", num_classes=7, clip_length=1, seed=3)
    named = {name.removeprefix("base."): array for name, array in weights.to_torch(model).items()}
    named["fc.weight"] = np.zeros((1000, 2048), np.float32)
    save_file(named, tmp_path / "resnet50.safetensors")
    linker = linkers.create(f"torch:{tmp_path / 'resnet50.safetensors'}")
    crops = [np.random.default_rng(k).integers(0, 256, (256, 128, 3), dtype=np.uint8) for k in range(2)]
    whole = np.tile(np.array([0, 256, 0, 128], np.int32), (2, 1, 1))
    expected = model.features(*augment.prepare(np.stack(crops)[:, None], whole))
    np.testing.assert_allclose(linker.features(crops), expected, rtol=1e-3, atol=1e-4)


def test_another_network_than_resnet_50_is_refused(tmp_path):
    save_file({"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other.safetensors does not fit the model"):
        linkers.create(f"torch:{tmp_path / 'other.safetensors'}")
