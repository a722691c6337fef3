"""The rehearsal of MARS: tracklets drawn to its totals, records of them, and a whole tiny run."""

import json

import numpy as np
import pytest

from benchmarks import mars_records, mars_rehearsal, mars_sizes
from cfaan_jax.data.records import RecordSet
from data_prep.datasets import mars
from tests.data_prep.checks import check_refused


def test_tracklets_are_drawn_to_the_totals_of_mars():
    found = mars_sizes.metadata(None)
    assert found.sizes() == mars.RELEASED
    lengths = found.test[:, 1] - found.test[:, 0]
    assert lengths.min() >= 2 and 25 <= np.median(lengths) <= 35
    assert (found.test[found.query, 2] > 0).all() and len(np.unique(found.query)) == len(found.query)


def test_records_have_the_lengths_of_the_metadata_and_frames_of_the_size_asked_for(info, tmp_path):
    found = mars_sizes.metadata(info)
    size = mars_records.write_records(tmp_path, found, 2.0)
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert mars_records.write_records(tmp_path, found, 2.0) == size <= 2000
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written  # found there
    query = RecordSet.open(tmp_path, "query")
    assert query.track_ids.tolist() == found.query.tolist()
    for i, row in enumerate(found.query):
        assert query.lengths[i] == found.test[row, 1] - found.test[row, 0]
        assert query.image(i, int(query.lengths[i]) - 1).shape == (*mars_records.SIZE, 3)
    check_refused("no JPEG of 256 x 128 is as small", mars_records.pool, 100)


def test_the_first_tracklets_give_as_many_clips_as_asked_for(info, tmp_path):
    mars_records.write_records(tmp_path, mars_sizes.metadata(info), 2.0)
    records = RecordSet.open(tmp_path, "gallery")
    part = mars_records.first(records, 3, 4, "all_sampled")
    assert part.lengths.tolist() == records.lengths[:len(part)].tolist()
    assert sum(-(-part.lengths // 4)) >= 3 > sum(-(-part.lengths[:-1] // 4))
    assert len(mars_records.first(records, 10**6, 4, "all_sampled")) == len(records)


@pytest.mark.slow
def test_a_tiny_rehearsal_projects_the_schedule_from_what_it_measured(info, small, tmp_path, capsys):
    out = tmp_path / "rehearsal.json"
    mars_rehearsal.main([f"--out={out}", f"--info={info}", *small, "--steps=2", "--batches=1"])
    content = json.loads(out.read_text())
    lines = {line["what"].split(":")[0]: line for line in content["lines"] if "scores" not in line["what"]}
    step = lines["training step of 32 clips"]
    assert (step["times"], step["sample"], step["kind"]) == (220 - 1, 2, "projected from 2")
    assert lines["set-up, compilation and step 1"]["kind"] == "measured"
    assert lines["checkpoint to resume from"]["times"] == 110
    assert lines["final evaluation, last and best"]["times"] == 4 and content["about"]["sizes"]["test frames"] > 32
    assert lines["periodic evaluation"]["times"] == 22 * 2
    assert content["total"] == pytest.approx(sum(line["times"] * line["seconds"] for line in content["lines"]))
    assert "This is not the paper's network: c2d" in capsys.readouterr().out
