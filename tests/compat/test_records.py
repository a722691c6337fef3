"""Records that commit f2b33fd wrote: two training shards, masks, frames of two sizes, junk and a distractor."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cfaan_jax.data.index import load_index
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.loader import TrainBatches
from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from tests.data.test_loader import by_pillow

RECORDS = Path(__file__).parent / "records"
BATCHES = json.loads((Path(__file__).parent / "batches.json").read_text())
SIZE = (40, 20)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_records_open_and_their_index_is_rebuilt_with_the_same_bytes(tmp_path, split):
    folder = shutil.copytree(RECORDS, tmp_path / "records")
    records = RecordSet.open(folder, split)
    assert len(records) == load_manifest(folder)["counts"][split]["tracklets"]
    assert records.pids.tolist() == {"train": [1, 1, 2, 2, 2, 3, 4, 4], "query": [11, 12],
                                     "gallery": [11, 12, 11, 0, -1]}[split]
    for i, name in enumerate(records.names):
        record, n = records.record(i), int(records.lengths[i])
        height, width = size = (30, 24) if name == "gallery-1" else SIZE
        assert (record.name, record.track_id, record.split) == (name, i, split) == (f"{split}-{i}", i, split)
        assert record.actions == ("largest", "linked|shift_left", "fallback", "none")[:n]
        assert record.sources == tuple(f"{split}{i}F{k}.jpg" for k in range(n))
        np.testing.assert_array_equal(records.rectangles(i), [[k, height, 0, width - k] for k in range(n)])
        assert records.candidates(i).tolist() == list(range(n))
        for k in range(n):
            assert records.frame(i, k) == record.frames[k]
            assert records.image(i, k).shape[:2] == size
    path = folder / f"index-{split}.npz"
    before = path.read_bytes()
    path.unlink()
    assert rebuild_index(folder, split).read_bytes() == before
    assert load_index(folder, split).names.tolist() == records.names


@pytest.mark.parametrize("step", BATCHES)
def test_training_batches_hold_the_same_frames(step):
    """The batches of seed 5: three identities with two tracklets each, clips of three frames."""
    records = RecordSet.open(RECORDS, "train")
    batch = TrainBatches(records, IdentitySampler(records.pids, 3, 2, seed=5), 3, SIZE, 9)[int(step)]
    clips = list(zip(BATCHES[step]["tracklets"], BATCHES[step]["frames"], strict=True))
    np.testing.assert_array_equal(batch["frames"], [[by_pillow(records.frame(i, k)) for k in ks] for i, ks in clips])
    np.testing.assert_array_equal(batch["rectangles"], [records.rectangles(i)[ks] for i, ks in clips])
    np.testing.assert_array_equal(batch["labels"], [records.pids[i] - 1 for i, _ in clips])
