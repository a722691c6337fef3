"""The paper's tables from run folders written by hand."""

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cfaan_jax import main as train_command
from cfaan_jax.errors import InputError
from cfaan_jax.experiment import config_file
from cfaan_jax.experiment.recipes import VARIANTS
from cfaan_jax.tables import runs, tables
from cfaan_jax.tables.flops import Cost
from tests.data_prep.checks import check_refused
from tests.report import test_summary

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def costs(monkeypatch):
    """Counting is tested elsewhere; it takes seconds for each network."""
    monkeypatch.setattr(tables, "_cost", lambda variant, *clip: Cost(25 * 10**9, 10**9, 30 * 10**6, 1.0, None))


def row(tracklets="raw", seed=0, mAP=0.5, protocol="mars", **more):
    return test_summary.row("any", protocol, tracklets == "aligned", seed, mAP, gallery_size=1200 + seed, **more)


def run(folder, variant="c2d", tracklets="raw", seed=0, rows=None, settings=(), name=None):
    """Writes a run's config.json and results.json."""
    config = config_file.load(f"quickstart:{variant}")
    config.seed, config.data.records = seed, f"drawn/seed-{seed}/records/{tracklets}"
    config.update_from_flattened_dict(dict(settings))
    workdir = folder / "synthetic" / (name or f"{variant}-{tracklets}-seed{seed}")
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    if rows != ():
        (workdir / "results.json").write_text(json.dumps([row(tracklets, seed)] if rows is None else rows))


def printed(capsys, *arguments):
    tables.main([str(each) for each in arguments])
    return capsys.readouterr().out


def as_dicts(capsys, *arguments):
    return list(csv.DictReader(io.StringIO(printed(capsys, *arguments, "--format=csv"))))


def cells(capsys, *arguments):
    return {(line["network"], line["tracklets"]): line for line in as_dicts(capsys, *arguments)}


def test_mean_deviation_and_number_of_seeds(tmp_path, capsys):
    for seed, mAP in enumerate((0.5, 0.6, 0.7)):
        run(tmp_path, "cfaan", "aligned", seed, [row("aligned", seed, mAP)])
    run(tmp_path, "c2d", "raw", 0)
    lines = cells(capsys, "--table=2", f"--runs={tmp_path}")
    filled = lines["cfaan", "aligned"]
    assert (filled["mAP"], filled["rank-1"], filled["seeds"]) == ("60.0 ± 10.0", "60.0 ± 0.0", "3")
    assert (filled["protocol"], filled["clips"], filled["weights"]) == ("mars", "all_sampled", "last")
    assert (filled["paper's mAP"], filled["paper's rank-1"]) == ("86.5", "91.3")
    assert (filled["MACs"], filled["paper's MACs"], filled["parameters"]) == ("25.000", "+0.126", "30.000")
    one = lines["c2d", "raw"]
    assert (one["mAP"], one["seeds"], one["paper's mAP"], one["paper's MACs"]) == (
        "50.0", "1", "not known here", "24.520 in all")
    assert len(lines) == 16 and lines["axial_s2", "raw"]["mAP"] == "" and lines["axial_s2", "raw"]["seeds"] == "0"


def test_the_papers_cost_stands_beside_clips_of_its_size_only(tmp_path, capsys):
    lines = cells(capsys, "--table=4", f"--runs={tmp_path}")
    assert lines["p3d_cfaan_recipe", "aligned"]["paper's MACs"] == "+1.510"
    assert lines["p3d", "aligned"]["paper's MACs"] == "not known here"
    assert {line["paper's mAP"] for cell, line in lines.items() if cell != ("cfaan", "aligned")} == {"not known here"}


def test_the_variant_is_told_by_the_network_and_not_by_the_folder(tmp_path, capsys):
    run(tmp_path, "axial_s2", "raw", 0, name="my-run")
    run(tmp_path, "ide", "raw", 0)
    lines = cells(capsys, "--table=2", f"--runs={tmp_path}")
    assert [name for name, line in lines.items() if line["mAP"]] == [("axial_s2", "raw")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_known_again_at_both_scales(variant):
    for scale in runs.SCALES.values():
        assert runs.variant_of(json.loads(json.dumps(scale.config_of(variant).model.to_dict()))) == variant


@pytest.mark.parametrize("number", tables.TABLES)
def test_a_cell_that_nobody_has_run_names_a_command_that_the_program_takes(tmp_path, capsys, number):
    (tmp_path / "synthetic").mkdir()
    lines = cells(capsys, f"--table={number}", f"--runs={tmp_path}", "--seeds=4", "--records=data",
                  "--config.train.epochs=20", "--config.optim.milestones=(13,17)")
    assert len(lines) == len(tables.TABLES[number].cells) >= 16
    for (variant, tracklets), line in lines.items():
        command = shlex.split(line["command"])
        assert command[:3] == ["python", "-m", "cfaan_jax.main"]
        config = train_command.parse(command[3:])[1]
        assert runs.variant_of(config.model.to_dict()) == variant
        assert config.data.records == f"data/seed-4/records/{tracklets}" and config.seed == 4
        assert config.train.epochs == 20 and config.optim.milestones == (13, 17) and config.model.width == 16


def test_commands_take_the_data_of_the_runs_that_are_there(tmp_path, capsys):
    run(tmp_path, seed=1, settings={"data.records": "/elsewhere/seed-1/records/raw"})
    text = printed(capsys, "--table=2", f"--runs={tmp_path}", "--seeds=3", "--list")
    assert text.count("--config.data.records=/elsewhere/seed-3/records/") == 16
    text = printed(capsys, "--table=2", f"--runs={tmp_path}", "--seeds=3", "--records=/here", "--list")
    assert text.count("--config.data.records=/here/seed-3/records/") == 16


def test_without_any_run_all_commands_take_the_records_that_the_readme_packs(tmp_path, capsys):
    lines = as_dicts(capsys, "--table=2", f"--runs={tmp_path / 'none'}")
    assert len(lines) == 16 and "drawn by code" not in printed(capsys, "--table=2", f"--runs={tmp_path / 'none'}")
    assert all(f"--workdir={tmp_path}/none/mars/" in line["command"] for line in lines)
    for words in ("--config=mars:cfaan", "--config.data.records=/data/mars-dl", "/mars/cfaan-aligned-seed0"):
        assert words in lines[-1]["command"]


def test_settings_of_the_runs_stand_below_the_table_and_in_the_commands(tmp_path, capsys):
    settings = {"train.epochs": 20, "optim.milestones": (13, 17), "eval.report_lists": 1, "data.workers": 1}
    run(tmp_path, "c2d", settings=settings)
    run(tmp_path, "ap3d", settings=settings)
    text = printed(capsys, "--table=2", f"--runs={tmp_path}")
    assert "differ from configs/quickstart.py: optim.milestones=(13, 17), train.epochs=20." in text
    assert "--config.train.epochs=20" in text and "report_lists" not in text and "workers" not in text
    assert "drawn by code" in text and "mars: gallery of 1,200 tracklets, 40 valid queries." in text


@pytest.mark.parametrize("more", [(), ["--config.train.epochs=21"], ["--config.optim.gamma=0.5"]])
def test_two_sets_of_settings_in_one_folder_are_refused(tmp_path, more):
    run(tmp_path, "c2d", settings={"train.epochs": 20})
    if not more:
        run(tmp_path, "cfaan")
    with pytest.raises(InputError, match=r"c2d-raw-seed0.*config\.|cfaan-raw-seed0.*config\.train\.epochs=40"):
        tables.main(["--table=2", f"--runs={tmp_path}", *more])


@pytest.mark.parametrize("more", [
    dict(clips="test"), dict(weights="best"), dict(reranked=True), dict(dataset="video"), dict(distance="euclidean"),
    dict(corrections="corrections.csv")])
def test_figures_of_different_kinds_are_never_averaged(tmp_path, capsys, more):
    run(tmp_path, seed=0, rows=[row(mAP=0.2)])
    run(tmp_path, seed=1, rows=[row(seed=1, mAP=0.4, **more), row(seed=1, mAP=0.9, protocol="mars_matlab")])
    lines = [line for line in as_dicts(capsys, "--table=2", f"--runs={tmp_path}") if line["mAP"]]
    assert [(line["network"], line["mAP"], line["seeds"]) for line in lines] == [("c2d", "20.0", "1"),
                                                                                 ("c2d", "40.0", "1")]
    kinds = [tuple(line[name] for name in ("protocol", "clips", "weights", "data")) for line in lines]
    assert kinds[0] != kinds[1]
    text = printed(capsys, "--table=2", f"--runs={tmp_path}")
    assert all(part in text for kind in kinds for part in kind)


def test_table_3_compares_the_same_runs_only(tmp_path, capsys):
    def both(seed, mAP, revised):
        return [row(seed=seed, mAP=mAP), row(seed=seed, mAP=revised, protocol="mars_revised", corrections="c.csv")]
    run(tmp_path, seed=0, rows=both(0, 0.2, 0.3))
    run(tmp_path, seed=1, rows=both(1, 0.4, 0.5))
    run(tmp_path, seed=2, rows=[row(seed=2, mAP=0.9)])
    lines = [line for line in as_dicts(capsys, "--table=3", f"--runs={tmp_path}") if line["mAP"]]
    assert [(line["protocol"], line["mAP"], line["seeds"]) for line in lines] == [
        ("mars", "30.0 ± 14.1", "2"), ("mars_revised, corrected labels", "40.0 ± 14.1", "2")]
    text = printed(capsys, "--table=3", f"--runs={tmp_path}")
    assert "Table 3 has is not known here" in text and "86.5" not in text
    to_do = [line for line in printed(capsys, "--table=3", f"--runs={tmp_path}", "--list").splitlines()
             if "c2d-raw" in line]
    assert [line.split("\t")[0] for line in to_do] == ["done", "done", "to do"] and "--mode=evaluate" in to_do[2]
    assert train_command.parse(shlex.split(to_do[2].split("\t")[1])[3:])[1].eval.protocols == ("all",)


def test_the_list_says_what_is_done(tmp_path, capsys):
    run(tmp_path, "c2d", "raw", 1)
    run(tmp_path, "c2d", "aligned", 0, rows=())
    run(tmp_path, "cfaan", "raw", 0, rows=[row(weights="untrained")])
    states = [line.split("\t") for line in printed(capsys, "--table=2", f"--runs={tmp_path}", "--list").splitlines()]
    assert len(states) == 16 * 3
    assert [command.split("--workdir=")[1].split()[0] for state, command in states if state == "done"] == [
        f"{tmp_path}/synthetic/c2d-raw-seed1"]


def test_a_table_goes_on_where_the_drawing_of_its_data_was_stopped(tmp_path, capsys):
    (tmp_path / "drawn" / "seed-0").mkdir(parents=True)
    listed = printed(capsys, "--table=2", f"--runs={tmp_path}", "--scale=small", "--list").splitlines()
    assert len(listed) == 16 * 3 and all(line.startswith("to do\t") for line in listed)


def test_markdown_and_files(tmp_path, capsys):
    run(tmp_path / "runs", "c2d")
    arguments = ["--table=2", f"--runs={tmp_path / 'runs'}", "--format=markdown"]
    text = printed(capsys, *arguments)
    assert text.startswith("Table 2: attention blocks\n\n| network ")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 16 and len({line.count("|") for line in table}) == 1 and "not run [1]" in table[3]
    assert "\n```text\n[1] python -m cfaan_jax.main" in text and "\n[15] python -m" in text
    assert text.endswith("\n```\n")
    assert printed(capsys, *arguments, f"--out={tmp_path / 'new' / 'table.md'}") == ""
    assert (tmp_path / "new" / "table.md").read_text() == text
    assert "Table 2: attention blocks" in printed(capsys, "--table=2", f"--runs={tmp_path / 'runs'}")


@pytest.mark.parametrize("arguments, message", [
    (["--runs={}/file"], "file: is not a folder"),
    (["--runs={}/synthetic"], "holds no runs of a table"),
    (["--runs={}", "--seeds=0,x"], "--seeds=0,x"),
    (["--runs={}", "--protocol=marz"], "unknown protocol 'marz'"),
    (["--runs={}", "--sed=1"], "unexpected argument '--sed=1'"),
    (["--runs={}", "--seeds=0,0"], "give different whole numbers"),
    (["--runs={}", "--seeds=99999999999"], "whole numbers below"),
    (["--runs={}", "--config.seed=1"], "give --seeds and --records"),
    (["--runs={}", "--config.optim.gama=1"], "did you mean --config.optim.gamma"),
    (["--runs={}", "--config.train.epochs=ten"], "config.train.epochs=ten: .*'ten'"),
    (["--runs={}", "--table=3", "--protocol=mars_revised"], "this one has none")])
def test_wrong_input_is_refused(tmp_path, arguments, message):
    run(tmp_path)
    (tmp_path / "file").touch()
    check_refused(message, tables.main, ["--table=2", *(each.format(tmp_path) for each in arguments)])


def test_a_run_that_is_there_twice_is_refused(tmp_path):
    run(tmp_path)
    run(tmp_path, name="again")
    check_refused("c2d was run twice on raw tracklets with seed 0", tables.main, ["--table=2", f"--runs={tmp_path}"])


@pytest.mark.parametrize("rows, message", [
    ([row(mAP=float("nan"))], "mAP is nan"), ([row(mAP=7.5)], "mAP is 7.5"), ([row(mAP=True)], "mAP is True"),
    ([row(mAP=10**400)], "mAP is 1000"), ([row(seed=0.5)], "seed is 0.5"), ([row(), row()], "a row is there twice"),
    ([], "not a list of rows"), ({}, "not a list of rows"), ([row(seed=3)], "results of seed 3, config.json beside it"),
])
def test_figures_that_no_evaluation_writes_are_refused(tmp_path, rows, message):
    run(tmp_path, rows=rows)
    check_refused(f"c2d-raw-seed0/results.json.*{message}", tables.main, ["--table=2", f"--runs={tmp_path}"])


def test_a_run_without_a_field_of_the_others_is_refused(tmp_path):
    run(tmp_path)
    run(tmp_path, "cfaan")
    path = tmp_path / "synthetic" / "cfaan-raw-seed0" / "config.json"
    config = json.loads(path.read_text())
    del config["optim"]["gamma"]
    path.write_text(json.dumps(config))
    check_refused("optim.gamma", tables.main, ["--table=2", f"--runs={tmp_path}"])


def test_both_scales_in_one_folder_need_a_choice(tmp_path, capsys):
    run(tmp_path)
    (tmp_path / "mars").mkdir()
    check_refused("several scales", tables.main, ["--table=2", f"--runs={tmp_path}"])
    assert "50.0" in printed(capsys, "--table=2", f"--runs={tmp_path}", "--scale=small")


def test_the_command_says_what_is_wrong_in_one_line():
    failed = subprocess.run([sys.executable, "-m", "cfaan_jax.tables", "--table=2", f"--runs={Path(__file__)}"],
                            cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1


def script(*arguments):
    return subprocess.run(["bash", "launch/table.sh", *arguments], cwd=REPOSITORY, capture_output=True, text=True,
                          env={**os.environ, "CFAAN_VENV": "none"}, check=False)


def test_the_script_lists_what_it_would_do(tmp_path):
    done = script("2", "--scale=small", f"--runs={tmp_path / 'runs'}", "--seeds=5", "--dry_run",
                  "--config.train.epochs=3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 16 and all(line.startswith("to do\tpython -m cfaan_jax.main") for line in lines)
    assert all("--config.seed=5" in line and "--config.train.epochs=3" in line for line in lines)
    assert not (tmp_path / "runs").exists()


# Stands for python: the runs of one variant do as told.
PYTHON = """#!/usr/bin/env bash
case "$*" in
    *cfaan_jax.main*--workdir=*nonlocal-raw-*) echo "ran $*"; {run} ;;
    *cfaan_jax.main*) echo "ran $*" ;;
    *--list*) cat {listed} ;;
    *cfaan_jax.tables*) echo "the table" ;;
esac
"""


@pytest.fixture
def start_script(tmp_path, capsys):
    """Starts launch/table.sh with that in the place of python, and with `run` in that of one variant's runs."""
    def start(run: str) -> subprocess.Popen:
        (tmp_path / "bin").mkdir()
        listed, stand_in = tmp_path / "listed", tmp_path / "bin" / "python"
        listed.write_text(printed(capsys, "--table=2", f"--runs={tmp_path / 'runs'}", "--seeds=0", "--list"))
        stand_in.write_text(PYTHON.format(run=run, listed=listed))
        stand_in.chmod(0o755)
        environment = {**os.environ, "CFAAN_VENV": "none", "PATH": f"{stand_in.parent}:{os.environ['PATH']}"}
        return subprocess.Popen(["bash", "launch/table.sh", "2", f"--runs={tmp_path / 'runs'}"], cwd=REPOSITORY,
                                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return start


@pytest.mark.parametrize("status, expected, ran", [(1, 1, 16), (2, 2, 3), (143, 143, 3)])
def test_the_script_stops_where_going_on_is_of_no_use(start_script, status, expected, ran):
    script = start_script(f"exit {status}")
    said, errors = script.communicate()
    assert (script.returncode, said.count("ran -m cfaan_jax.main")) == (expected, ran), errors
    assert ("the table" in said, "1 runs failed" in errors) == (status == 1, status == 1)


def test_a_signal_to_the_script_alone_stops_its_run_and_the_script_behind_it(start_script):
    script = start_script("trap 'echo saved; exit 143' TERM; echo began; for ((;;)); do sleep 0.05; done")
    assert "began\n" in script.stdout  # reads up to there
    script.terminate()
    assert script.wait(30) == 143 and script.stdout.read() == "saved\n"


def test_the_script_refuses_what_it_does_not_know():
    assert script("1", "4").returncode == 2
    assert script("5").returncode == 2 and script("--dry_run").returncode == 2
    assert "launch/table.sh N" in script("--help").stdout
