"""The benchmark of the input runs without records of one's own."""

import json

import pytest

from benchmarks import input as benchmark


def test_every_rate_is_compared_with_decoding_and_with_frame_by_frame(tmp_path, capsys):
    benchmark.main([f"--out={tmp_path / 'input.json'}", "--batches=2", "--rounds=1"])
    rows = {row.pop("what"): row for row in json.loads((tmp_path / "input.json").read_text())}
    assert list(rows) == ["loader", "decoding", "OpenCV's", "frame by frame"]
    for per in ("second", "cpu_second"):
        rates = {name: row[f"frames_per_{per}"] for name, row in rows.items()}
        for name, row in rows.items():
            assert row[f"of_decoding_per_{per}"] == pytest.approx(rates[name] / rates["decoding"])
            assert row[f"of_frame_by_frame_per_{per}"] == pytest.approx(rates[name] / rates["frame by frame"])
    assert "384 frames of 256 x 128" in capsys.readouterr().out
