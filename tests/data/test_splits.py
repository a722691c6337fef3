"""Damaged tracklets, an error or left out."""

import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

from cfaan_jax.data import records, splits
from cfaan_jax.data.index import load_index
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import DamagedRecord
from cfaan_jax.runtime import distributed
from tests import tiny_records
from tests.data.test_loader import train_batches
from tests.data_prep.checks import check_refused
from tests.tiny_records import reseal

SKIP, ERROR = (ConfigDict(dict(on_bad_record=word, workers=2)) for word in ("skip", "error"))


@pytest.fixture
def folder(tmp_path, records_directory):
    return shutil.copytree(records_directory, tmp_path / "records")


@pytest.mark.parametrize("harm, reason", [
    (lambda folder: tiny_records.damage(folder, "train", 5), "length or checksum wrong"),
    (lambda folder: reseal(folder, "train", 5, lambda payload: payload.replace(b"train-5", b"train-9")),
     "holds tracklet train-9 of .* where the index has train-5.*--rebuild_index"),
    (lambda folder: reseal(folder, "train", 5, tiny_records.blackened), "frame . of tracklet train-5"),
    (lambda folder: reseal(folder, "train", 5, lambda payload: bytes(len(payload))), "not a ")])
def test_a_damaged_tracklet_is_an_error_or_left_out_and_named_once(folder, capsys, harm, reason):
    whole = RecordSet.open(folder, "train")
    expected = {name: whole.frame(i, 0) for i, name in enumerate(whole.names)}
    harm(folder)
    with pytest.raises(DamagedRecord, match=reason):
        every = splits.open_split(folder, "train", ERROR)
        [every.image(i, k) for i in range(len(every)) for k in range(every.lengths[i])]
    for _ in range(2):
        sound = splits.open_split(folder, "train", SKIP)
        assert {name: sound.frame(i, 0) for i, name in enumerate(sound.names)} == {
            name: frame for name, frame in expected.items() if name != "train-5"}
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")]
    assert "tiny-train.tfrecord-00000-of-00001" in line and "train-5" in line


def test_the_columns_are_those_of_the_sound_tracklets(folder):
    whole = RecordSet.open(folder, "train")
    tiny_records.damage(folder, "train", 0, 7)
    sound = splits.open_split(folder, "train", SKIP)
    expected = [i for i in range(len(whole)) if i not in (0, 7)]
    assert sound.names == [whole.names[i] for i in expected]
    for name in ("pids", "camids", "track_ids", "lengths"):
        np.testing.assert_array_equal(getattr(sound, name), getattr(whole, name)[expected])
    for row, i in enumerate(expected):
        np.testing.assert_array_equal(sound.rectangles(row), whole.rectangles(i))
        np.testing.assert_array_equal(sound.image_sizes(row), whole.image_sizes(i))


def test_training_draws_others_in_their_place(folder):
    """One identity loses its only tracklet, another one of three."""
    tiny_records.damage(folder, "train", 0, 5)
    sound = splits.open_split(folder, "train", SKIP)
    one, other = train_batches(sound), train_batches(sound)
    assert 1 not in sound.pids and (sound.pids == 3).sum() == 2
    for step in (8, 0, 3):
        np.testing.assert_array_equal(one[step]["frames"], other[step]["frames"])


def test_what_another_process_cannot_read_is_left_out_here(folder, monkeypatch, capsys):
    monkeypatch.setattr(distributed, "any_over_processes", lambda flags: flags | (np.arange(len(flags)) == 2))
    assert "query-2" not in splits.open_split(folder, "query", SKIP).names
    assert "query-2, for another process" in capsys.readouterr().out


def test_nothing_left_is_an_error(folder):
    tiny_records.damage(folder, "query", 0, 1, 2, 3)
    check_refused("all 4 tracklets of split query are damaged.*query-0", splits.open_split, folder, "query", SKIP)


def test_a_file_that_cannot_be_read_is_no_damaged_tracklet(folder, monkeypatch):
    index = load_index(folder, "query")
    monkeypatch.setattr(records, "load_index", lambda *_: index)
    next(folder.glob("*-query.tfrecord-*")).unlink()
    check_refused("is missing; restore it", splits.open_split, folder, "query", SKIP)
