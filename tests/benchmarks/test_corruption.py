"""The corruption campaign, once through all kinds of damage."""

import json

from benchmarks.robustness import corruption
from cfaan_jax.data import example

FILES = len(corruption.RECORDS) + len(corruption.CHECKPOINTS)


def campaign(folder) -> tuple[int, list[dict]]:
    """The exit status, and the counts of each kind and policy."""
    status = corruption.main([f"--out={folder / 'out.json'}", f"--files={FILES}", "--seed=3"])
    return status, json.loads((folder / "out.json").read_text())["counts"]


def test_every_kind_of_damage_is_told(tmp_path):
    status, counts = campaign(tmp_path)
    assert status == 0 and len(counts) == 2 * len(corruption.RECORDS) + len(corruption.CHECKPOINTS)
    for row in counts:
        assert sum(row[outcome] for outcome in corruption.OUTCOMES) == 1 and row["WRONG"] == row["CRASH"] == 0
        assert not (row["on_bad_record"] == "error" and row["left out"])
    assert next(row for row in counts if row["damage"] == "payload" and row["on_bad_record"] == "skip")["left out"]


def test_what_is_not_told_ends_with_status_1(tmp_path, monkeypatch):
    monkeypatch.setattr(example, "_masked_checksum", lambda _: bytes(4))
    monkeypatch.setattr(corruption, "CHECKPOINTS", {})
    monkeypatch.setattr(corruption, "RECORDS", {"payload": corruption.RECORDS["payload"]})
    status, counts = campaign(tmp_path)
    assert status == 1 and sum(row["WRONG"] for row in counts) > 0
