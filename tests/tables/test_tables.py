"""The paper's tables from run folders written by hand."""

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cfaan_jax import main as train_command
from cfaan_jax.experiment import config_file
from cfaan_jax.experiment.recipes import VARIANTS
from cfaan_jax.models.presets import PRESETS
from cfaan_jax.tables import flops, paper, runs, tables
from cfaan_jax.tables.flops import Cost
from tests.data_prep.checks import check_refused
from tests.report import test_summary

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def costs(monkeypatch):
    """Counting is tested elsewhere; it takes seconds for each network."""
    monkeypatch.setattr(flops, "cost", lambda variant: Cost((25 if variant == "c2d" else 31) * 10**9, 0, 0))


def row(tracklets="raw", seed=0, mAP=0.5, protocol="mars", **more):
    return test_summary.row("any", protocol, tracklets == "aligned", seed, mAP, gallery_size=1200 + seed, **more)


def run(folder, variant="c2d", tracklets="raw", seed=0, rows=None, settings=(), name=None, place="synthetic"):
    """Writes a run's config.json and results.json; its workdir."""
    config = config_file.load(f"{'quickstart' if place == 'synthetic' else place}:{variant}")
    config.seed, config.data.records = seed, f"drawn/seed-{seed}/records/{tracklets}"
    config.update_from_flattened_dict(dict(settings))
    workdir = folder / place / (name or f"{variant}-{tracklets}-seed{seed}")
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    if rows != ():
        (workdir / "results.json").write_text(json.dumps([row(tracklets, seed)] if rows is None else rows))
    return workdir


def printed(capsys, *arguments):
    tables.main(list(arguments))
    return capsys.readouterr().out


def as_dicts(capsys, *arguments):
    return list(csv.DictReader(io.StringIO(printed(capsys, *arguments, "--format=csv"))))


def filled(capsys, *arguments):  # the lines with figures of runs
    return [line for line in as_dicts(capsys, *arguments) if line["ours"] and line["heading"] != "counted"]


@pytest.mark.parametrize("number", paper.TABLES)
def test_every_published_figure_is_printed_in_its_cell(tmp_path, capsys, number):
    with (REPOSITORY / "cfaan_jax/tables/paper.csv").open() as file:
        everything = list(csv.DictReader(file))
    assert len(everything) == 125 and len([figure for figure in everything if figure["value"]]) == 113
    figures = [figure for figure in everything if figure["table"] == str(number)]
    text = printed(capsys, f"--table={number}", f"--runs={tmp_path}", "--format=markdown")
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]]
                        for line in text.splitlines() if line.startswith("|"))
    names, columns = (list(dict.fromkeys(figure[name] for figure in figures)) for name in ("row", "column"))
    assert [row[0] for row in rows] == names and header[1::2] == columns and set(header[2::2]) <= {"ours", "counted"}
    for figure in figures:
        row, column = rows[names.index(figure["row"])], header.index(figure["column"])
        assert row[column] == (figure["value"] or "-"), figure
        if figure["column"] == "GFLOPs":
            assert row[column + 1] == ("25.000" if figure["value"] == "24.520" else "31.000")
        else:  # beside a dash, and for a method that is not here, stands nothing
            runs_here = figure["row"] in paper.VARIANT_OF and figure["value"]
            assert re.fullmatch(r"not run \[\d+\]" if runs_here else "", row[column + 1]), figure
    lines = [tuple(line.values())[:4] for line in as_dicts(capsys, f"--table={number}", f"--runs={tmp_path}")]
    assert sorted(lines) == sorted(tuple(figure.values()) for figure in figures)


@pytest.mark.parametrize("number, raw, aligned, dukev", [
    (1, "ftwft p3d c2d nonlocal tclnet ap3d", "ftwft p3d c2d nonlocal tclnet ap3d", ""),
    (2, "c2d", "c2d nonlocal axial_s1_none_1head axial_s1_none axial_s1_sinusoidal axial_s1_relative axial_s2 cfaan",
     ""),
    (3, "ftwft tclnet ap3d", "cfaan", "tclnet-raw ap3d-raw cfaan-aligned"),
    (4, "", "c2d p3d ap3d tclnet nonlocal cfaan", "")])
def test_a_cell_without_a_run_names_a_command_that_the_program_takes(tmp_path, capsys, number, raw, aligned, dukev):
    on_mars = {*(f"{name}-raw" for name in raw.split()), *(f"{name}-aligned" for name in aligned.split())}
    for scale, data, expected in (
            ("paper", "/x/mine", {f"mars/{name}" for name in on_mars} | {f"dukev/{name}" for name in dukev.split()}),
            ("small", "data", {f"synthetic/{name}" for name in on_mars})):
        lines = as_dicts(capsys, f"--table={number}", f"--runs={tmp_path}", "--seeds=4", f"--scale={scale}",
                         f"--records={data}", "--config.train.epochs=20", "--config.optim.milestones=(13,17)")
        commands = [shlex.split(line) for line in {line["note"] for line in lines if line["note"]}]
        configs = {command[4].split(f"={tmp_path}/")[1]: train_command.parse(command[3:])[1] for command in commands}
        assert configs.keys() == {f"{name}-seed4" for name in expected} and len(commands) == len(expected)
        assert all(command[:3] == ["python", "-m", "cfaan_jax.main"] for command in commands)
        for workdir, config in configs.items():
            dataset, variant, tracklets, _ = re.split("[/-]", workdir)
            assert runs.variant_of(config.model.to_dict()) == variant and config.seed == 4
            assert config.train.epochs == 20 and config.optim.milestones == (13, 17)
            assert ("dukev" if dataset == "dukev" else "mars_revised") in config.eval.protocols
            assert config.data.records == (
                f"data/seed-4/records/{tracklets}" if scale == "small"
                else f"/x/{'mine' if dataset == 'mars' else 'dukev'}-{'dl' if tracklets == 'aligned' else 'raw'}")


def test_rows_of_table_2_are_the_networks_that_their_words_describe():
    for name, variant in list(paper.VARIANT_OF.items()):
        if words := re.match(r"Axial-based, (\d) head.*enc\. (\w+), (\d) scale", name):
            network = PRESETS[variant]
            assert (str(network["heads"]), network["positional"], str(network["scales"])) == (
                words[1], words[2].lower(), words[3])


def test_mean_deviation_and_number_of_seeds(tmp_path, capsys):
    for seed, mAP in enumerate((0.5, 0.6, 0.7)):
        run(tmp_path, "cfaan", "aligned", seed, [row("aligned", seed, mAP)])
    run(tmp_path, "c2d", "raw", 0)
    lines = filled(capsys, "--table=2", f"--runs={tmp_path}")
    assert [(line["paper"], line["ours"]) for line in lines] == [
        ("83.4", "50.0"), ("87.7", "60.0"), ("86.5", "60.0 ± 10.0"), ("91.3", "60.0 ± 0.0")]
    assert (note := lines[2]["note"]) == ("mars, clips all_sampled, weights last, dataset synthetic; seeds: 3, "
                                          "gallery of 1,200 to 1,202 tracklets, 40 valid queries")
    text = printed(capsys, "--table=2", f"--runs={tmp_path}")
    assert "| 60.0 ± 10.0 [9] |" in text and f"\n[9] {note}\n" in text and "[2] python -m cfaan_jax.main" in text


def test_other_systems_are_in_their_own_recipe_and_cfaans_is_a_column_where_it_was_run(tmp_path, capsys):
    run(tmp_path, "ap3d", "raw", 0, [row(mAP=0.3)])
    assert "CF-AAN's recipe" not in printed(capsys, *(table := ["--table=1", f"--runs={tmp_path}"]))
    run(tmp_path, "ap3d_cfaan_recipe", "raw", 0, [row(mAP=0.4)])
    assert [(line["row"], line["column"], line["heading"], line["ours"]) for line in filled(capsys, *table)[:2]] == [
        ("AP3D [10]", "MARS original mAP", "ours", "30.0"),
        ("AP3D [10]", "MARS original mAP", "in CF-AAN's recipe", "40.0")]
    text = printed(capsys, *table)
    assert text.count("in CF-AAN's recipe") == 2 and "30.0 [6] | 40.0 [6]" in " ".join(text.split())


def test_the_variant_is_told_by_the_network_and_not_by_the_folder(tmp_path, capsys):
    run(tmp_path, "axial_s2", "aligned", 0, name="my-run")
    run(tmp_path, "ide", "raw", 0)
    first, _ = filled(capsys, "--table=2", f"--runs={tmp_path}")
    assert "2 scale(s)" in first["row"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_known_again_at_both_scales(variant):
    for config in ("mars", "dukev", "quickstart"):
        model = config_file.load(f"{config}:{variant}").model.to_dict()
        assert runs.variant_of(json.loads(json.dumps(model))) == variant


def test_settings_of_the_runs_stand_below_the_table_and_in_the_commands(tmp_path, capsys):
    settings = {"train.epochs": 20, "optim.milestones": (13, 17), "eval.report_lists": 1, "data.workers": 1}
    run(tmp_path, "c2d", settings=settings)
    run(tmp_path, "ap3d", settings=settings)
    text = printed(capsys, "--table=2", f"--runs={tmp_path}")
    assert "differ from the configs: optim.milestones=(13, 17), train.epochs=20." in text
    assert "--config.train.epochs=20" in text and "report_lists" not in text and "workers" not in text
    assert "Drawn pedestrians" in text and "gallery of 1,200 tracklets, 40 valid queries" in text


@pytest.mark.parametrize("more", [(), ["--config.train.epochs=21"], ["--config.optim.gamma=0.5"]])
def test_two_sets_of_settings_in_one_folder_are_refused(tmp_path, more):
    run(tmp_path, "c2d", settings={"train.epochs": 20})
    if not more:
        run(tmp_path, "cfaan")
    message = r"c2d-raw-seed0.*config\.|cfaan-raw-seed0.*config\.train\.epochs=40"
    check_refused(message, tables.main, ["--table=2", f"--runs={tmp_path}", *more])


@pytest.mark.parametrize("more", [
    dict(clips="test"), dict(weights="best"), dict(reranked=True), dict(dataset="video"), dict(distance="euclidean"),
    dict(corrections="corrections.csv")])
def test_figures_of_different_kinds_are_never_averaged(tmp_path, capsys, more):
    run(tmp_path, seed=0, rows=[row(mAP=0.2)])
    run(tmp_path, seed=1, rows=[row(seed=1, mAP=0.4, **more), row(seed=1, mAP=0.9, protocol="mars_matlab")])
    first, second, *_ = filled(capsys, "--table=2", f"--runs={tmp_path}")
    assert [(line["row"], line["column"], line["ours"]) for line in (first, second)] == [
        ("Baseline (without DL)", "MARS mAP", "20.0"), ("Baseline (without DL)", "MARS mAP", "40.0")]
    assert first["note"] != second["note"] and all("; seeds: 1, " in line["note"] for line in (first, second))
    text = printed(capsys, "--table=2", f"--runs={tmp_path}")
    assert first["note"] in text and second["note"] in text and "20.0 [1]; 40.0 [2]" in text


def test_table_4_compares_the_same_runs_only(tmp_path, capsys):
    def both(seed, mAP, revised, file="c.csv"):
        return [row("aligned", seed, mAP), row("aligned", seed, revised, protocol="mars_revised", corrections=file)]
    for seed, rows in enumerate((both(0, 0.2, 0.3), both(1, 0.4, 0.5), [row("aligned", 2, 0.9)])):
        run(tmp_path, "c2d", "aligned", seed, rows)
    run(tmp_path, "cfaan", "aligned", 0, both(0, 0.2, 0.3, None))
    lines = filled(capsys, "--table=4", f"--runs={tmp_path}")
    assert [(line["paper"], line["ours"], line["note"].split(" clips")[0]) for line in lines] == [
        ("84.9", "30.0 ± 14.1", "mars,"), ("87.5", "40.0 ± 14.1", "mars_revised, corrected labels,"),
        ("86.5", "20.0", "mars,"), ("88.9", "30.0", "mars_revised, labels as released,")]
    listed = printed(capsys, "--table=4", f"--runs={tmp_path}", "--list", "--config.eval.corrections=mine.csv")
    states, commands = zip(*(line.split("\t") for line in listed.splitlines() if "c2d-aligned" in line), strict=True)
    assert states == ("done", "done", "to do") and "--mode=evaluate" in commands[2]
    config = train_command.parse(shlex.split(commands[2])[3:])[1]
    assert config.eval.protocols == ("all",) and config.eval.corrections == "mine.csv" and config.seed == 2


def test_table_3_has_both_data_sets(tmp_path, capsys):
    run(tmp_path, "cfaan", "aligned", 0, [row("aligned", mAP=0.3)], place="mars")
    run(tmp_path, "cfaan", "aligned", 0, [row("aligned", mAP=0.7, protocol="dukev", dataset="dukev")], place="dukev")
    run(tmp_path, "ap3d", "raw", 0, [row(mAP=0.2)], place="mars")
    lines = [tuple(line.values())[1:6] for line in filled(capsys, "--table=3", f"--runs={tmp_path}")]
    assert [line for line in lines if line[1].endswith("mAP")] == [
        ("AP3D (ECCV20)[10]", "MARS mAP", "85.1", "ours", "20.0"),
        ("DL+CF-AAN (Ours)", "MARS mAP", "86.5", "ours", "30.0"),
        ("DL+CF-AAN (Ours)", "DukeV mAP", "96.2", "ours", "70.0")]


def test_the_list_says_what_is_done(tmp_path, capsys):
    def done():
        lines = printed(capsys, "--table=2", f"--runs={tmp_path}", "--scale=small", "--list").splitlines()
        assert len(lines) == 9 * 3 and all(line.startswith(("to do\tpython", "done\tpython")) for line in lines)
        return [line.split("--workdir=")[1].split()[0] for line in lines if line.startswith("done")]
    (tmp_path / "drawn" / "seed-0").mkdir(parents=True)  # a drawing that was stopped
    assert done() == []
    workdir = run(tmp_path, "c2d", "raw", 1)
    run(tmp_path, "c2d", "aligned", 0, rows=())
    run(tmp_path, "cfaan", "aligned", 0, rows=[row("aligned", weights="untrained")])
    assert done() == [str(workdir)]


def test_markdown_and_files(tmp_path, capsys):
    run(tmp_path / "runs", "c2d")
    arguments = ["--table=2", f"--runs={tmp_path / 'runs'}", "--format=markdown"]
    text = printed(capsys, *arguments)
    assert text.startswith("Table 2: Re-Detect and Link (DL), and the attention blocks\n\n| method ")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 9 and len({line.count("|") for line in table}) == 1 and "not run [2]" in table[3]
    assert "\n```text\n[1] mars, " in text and "\n[9] python -m" in text and text.endswith("\n```\n")
    assert printed(capsys, *arguments, f"--out={tmp_path / 'new' / 'table.md'}") == ""
    assert (tmp_path / "new" / "table.md").read_text() == text
    assert "Table 2: Re-Detect" in printed(capsys, "--table=2", f"--runs={tmp_path / 'runs'}")


@pytest.mark.parametrize("arguments, message", [
    (["--runs={}/file"], "file: holds no runs of a table"), (["--runs={}/synthetic"], "holds no runs of a table"),
    (["--seeds=0,x"], "--seeds=0,x"), (["--sed=1"], "unexpected argument '--sed=1'"),
    (["--seeds=0,0"], "give different whole numbers"), (["--seeds=99999999999"], "whole numbers below"),
    (["--config.seed=1"], "give --seeds and --records"), (["--config.train.epochs=ten"], "epochs=ten: .*'ten'"),
    (["--config.optim.gama=1"], "did you mean --config.optim.gamma")])
def test_wrong_input_is_refused(tmp_path, arguments, message):
    run(tmp_path)
    (tmp_path / "file").touch()
    arguments = [each.format(tmp_path) for each in ("--table=2", "--runs={}", *arguments)]
    check_refused(message, tables.main, arguments)


@pytest.mark.parametrize("rows, message", [
    ([row(mAP=float("nan"))], "mAP is nan"), ([row(mAP=7.5)], "mAP is 7.5"), ([row(mAP=True)], "mAP is True"),
    ([row(mAP=10**400)], "mAP is 1000"), ([row(seed=0.5)], "seed is 0.5"), ([row(), row()], "a row is there twice"),
    ([], "not a list of rows"), ({}, "not a list of rows"), ([row(seed=3)], "of seed 3, config.json beside it")])
def test_figures_that_no_evaluation_writes_are_refused(tmp_path, rows, message):
    run(tmp_path, rows=rows)
    check_refused(f"c2d-raw-seed0/results.json.*{message}", tables.main, ["--table=2", f"--runs={tmp_path}"])


def test_a_run_that_is_there_twice_or_lacks_a_field_of_the_others_is_refused(tmp_path):
    run(tmp_path)
    path = run(tmp_path, name="again") / "config.json"
    check_refused("c2d was run twice on raw tracklets with seed 0", tables.main, ["--table=2", f"--runs={tmp_path}"])
    config = json.loads(path.read_text())
    del config["optim"]["gamma"]
    path.write_text(json.dumps(config))
    check_refused("optim.gamma", tables.main, ["--table=2", f"--runs={tmp_path}"])


def test_the_scale_is_that_of_the_runs_unless_it_is_chosen(tmp_path, capsys):
    run(tmp_path)
    assert "50.0 [" in printed(capsys, "--table=2", f"--runs={tmp_path}")
    (tmp_path / "mars").mkdir()
    assert "50.0 [" not in printed(capsys, "--table=2", f"--runs={tmp_path}")
    assert "50.0 [" in printed(capsys, "--table=2", f"--runs={tmp_path}", "--scale=small")


def test_the_command_says_what_is_wrong_in_one_line():
    failed = subprocess.run([sys.executable, "-m", "cfaan_jax.tables", "--table=2", f"--runs={Path(__file__)}"],
                            cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1
