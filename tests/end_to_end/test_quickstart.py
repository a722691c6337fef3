"""The main job as a user types it, shrunk by settings only: noisy tracklets in, ranked lists and a table out."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import cfaan_jax.main
from cfaan_jax.report import summary
from data_prep import build_tfrecords
from tests.workdirs import results

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SHRUNK = ["--identities=8", *(f"--config.{field}" for field in (
    "train.epochs=1", "model.width=8", "model.depths=(1,1,1,1)", "data.image_size=(64,32)", "data.identities=3",
    "data.tracklets=2", "eval.report_lists=2"))]
ROWS = {("untrained", False), ("c2d", False), ("c2d", True), ("cfaan", False), ("cfaan", True)}
# Stands for python: writes down each command, then runs it.
PYTHON = """#!/usr/bin/env bash
printf '%q ' "$@" >> {log}; echo >> {log}
exec {python} "$@"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str, list[list[str]]]:
    """The folder of the run, what it printed, and the arguments of Python in each of its commands."""
    folder = tmp_path_factory.mktemp("quickstart")
    out, log, python = folder / "run", folder / "commands", folder / "bin/python"
    python.parent.mkdir()
    python.write_text(PYTHON.format(log=log, python=sys.executable))
    python.chmod(0o755)
    environment = {**os.environ, "CFAAN_VENV": "none", "PATH": f"{python.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "launch/quickstart.sh", f"--out={out}", *SHRUNK], cwd=REPOSITORY, env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return out, done.stdout, [shlex.split(line) for line in log.read_text().splitlines()]


def test_results_hold_every_row_under_both_protocols_and_the_last_words_are_the_table_and_the_folder(finished):
    out, text, _ = finished
    rows = results(out)
    for protocol in ("mars", "mars_revised"):
        assert {(row["model"], row["aligned"]) for row in rows if row["protocol"] == protocol} == ROWS
    for row in rows:
        assert 0 < row["mAP"] < 1 and 0 <= row["rank1"] <= row["rank5"] <= row["rank10"] <= 1
        assert row["seed"] == 0
    table = text[text.index("6/6"):]
    assert "mars_revised" in table and "rank-1" in table and str(out) in table


def test_records_checkpoints_curves_and_ranked_lists_are_left(finished):
    out, *_ = finished
    for workdir in ("c2d-raw", "c2d-aligned", "cfaan-raw", "cfaan-aligned"):
        assert any((out / workdir / "checkpoints").iterdir())
        assert (out / workdir / "metrics.csv").stat().st_size > 0
        assert any((out / workdir / "report").glob("*ranked*.png"))
    assert any((out / "records/aligned/preview").glob("*"))


def test_a_second_start_finds_everything_done_and_changes_nothing(finished, monkeypatch, capsys):
    """The commands of the first start once more, in this process."""
    out, _, commands = finished
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", ""))
    before = (out / "results.json").read_bytes()
    shards = {path: path.stat().st_mtime_ns for path in (out / "records").rglob("*.tfrecord-*")}
    for command in commands:
        if command[0] == "data_prep/build_tfrecords.py":
            assert build_tfrecords.main(command[1:]) == 0
        elif command[:2] == ["-m", "cfaan_jax.main"]:
            assert cfaan_jax.main.main(command[2:]) == 0
        else:
            assert command[:2] == ["-m", "cfaan_jax.report.summary"]
            summary.main(command[2:])
    text = capsys.readouterr().out
    assert len(commands) == 9 and text.count("is complete already") == 2 and text.count("is finished: ") == 5
    assert (out / "results.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in (out / "records").rglob("*.tfrecord-*")} == shards
