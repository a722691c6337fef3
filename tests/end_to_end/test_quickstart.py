"""The main job as a user types it, shrunk by settings only: noisy tracklets in, ranked lists and a table out."""

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SHRUNK = [
    "--identities=12",
    "--config.train.epochs=2",
    "--config.model.width=8",
    "--config.model.depths=(1,1,1,1)",
    "--config.data.image_size=(64,32)",
    "--config.data.identities=3",
    "--config.data.tracklets=2",
]
QUICK = "--xla_backend_optimization_level=0"  # quickly compiled, since each network takes a few steps only
ROWS = {("untrained", False), ("c2d", False), ("c2d", True), ("cfaan", False), ("cfaan", True)}


def quickstart(out: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "launch/quickstart.sh", f"--out={out}", *SHRUNK],
        cwd=REPOSITORY, env={**os.environ, "CFAAN_VENV": "none", "XLA_FLAGS": QUICK}, capture_output=True, text=True,
        check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("quickstart") / "run"
    done = quickstart(out)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return out, done.stdout


def test_the_results_hold_every_row_under_both_protocols(finished):
    out, _ = finished
    rows = json.loads((out / "results.json").read_text())
    for protocol in ("mars", "mars_revised"):
        assert {(row["model"], row["aligned"]) for row in rows if row["protocol"] == protocol} == ROWS
    for row in rows:
        assert 0 < row["mAP"] < 1 and 0 <= row["rank1"] <= row["rank5"] <= row["rank10"] <= 1
        assert row["seed"] == 0


def test_the_last_words_are_the_table_and_the_folder(finished):
    out, text = finished
    table = text[text.index("6/6"):]
    assert "mars_revised" in table and "rank-1" in table and str(out) in table


def test_records_checkpoints_curves_and_ranked_lists_are_left(finished):
    out, _ = finished
    for workdir in ("c2d-raw", "c2d-aligned", "cfaan-raw", "cfaan-aligned"):
        assert any((out / workdir / "checkpoints").iterdir())
        assert (out / workdir / "metrics.csv").stat().st_size > 0
        assert any((out / workdir / "report").glob("*ranked*.png"))
    assert any((out / "records/aligned/preview").glob("*"))


def test_a_second_start_finds_everything_done_and_changes_nothing(finished):
    out, _ = finished
    results = (out / "results.json").read_bytes()
    shards = {path: path.stat().st_mtime_ns for path in (out / "records").rglob("*.tfrecord-*")}
    again = quickstart(out)
    assert again.returncode == 0, again.stderr[-4000:]
    assert (out / "results.json").read_bytes() == results
    assert {path: path.stat().st_mtime_ns for path in (out / "records").rglob("*.tfrecord-*")} == shards
