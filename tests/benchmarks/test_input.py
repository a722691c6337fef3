"""The benchmark of the input runs without records of one's own."""

import json

import numpy as np
import pytest

from benchmarks import input as benchmark


@pytest.mark.slow
def test_every_rate_is_compared_with_decoding_and_with_frame_by_frame(tmp_path, capsys):
    benchmark.main([f"--out={tmp_path / 'input.json'}", "--batches=2", "--rounds=3"])
    rows = {row.pop("what"): row for row in json.loads((tmp_path / "input.json").read_text())}
    assert list(rows) == ["loader", "decoding", "frame by frame"]
    for name, row in rows.items():
        assert row["frames_per_second"] > 0 and len(row["of_decoding"]) == len(row["of_frame_by_frame"]) == 3
        # Whatever the round, these two ratios differ by that of the two rates they are of.
        of_each_other = np.divide(row["of_decoding"], row["of_frame_by_frame"])
        assert of_each_other == pytest.approx(np.array(rows["frame by frame"]["of_decoding"])), name
    assert rows["decoding"]["of_decoding"] == rows["frame by frame"]["of_frame_by_frame"] == [1, 1, 1]
    shown = capsys.readouterr().out
    assert "384 frames of 256 x 128" in shown and "1.00 (1.00 to 1.00)" in shown
