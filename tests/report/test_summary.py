import json
import subprocess
import sys

import pytest

from cfaan_jax.report import summary
from tests.data_prep.checks import check_refused


def row(model="cfaan", protocol="mars", aligned=False, seed=0, mAP=0.5, **more):
    return {"model": model, "network": model, "aligned": aligned, "protocol": protocol, "mAP": mAP, "rank1": 0.6,
            "rank5": 0.7, "rank10": 0.8, "rank20": 0.9, "gallery_size": 1200, "num_valid": 40, "num_queries": 42,
            "seed": seed, "weights": "last", "clips": "all_sampled", "dataset": "synthetic", "corrections": None,
            "note": "", "reranked": False, "distance": "cosine", **more}


def results(tmp_path, name, *rows):
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(rows))
    return path


def test_rows_and_columns(tmp_path):
    files = [results(tmp_path, "a", row("untrained", weights="untrained"), row("untrained", "mars_revised", mAP=0.25,
                                                                               weights="untrained")),
             results(tmp_path, "b", row("c2d"), row("c2d", "mars_revised")),
             results(tmp_path, "c", row(aligned=True), row(protocol="mars_revised", aligned=True))]
    mars, revised = summary.tables(summary.collect(files))
    assert mars.headers == ["model", "tracklets", "weights", "seeds", "mAP", "rank-1", "rank-5", "rank-10"]
    assert [line[:3] for line in mars.lines] == [["untrained", "raw", "untrained"], ["C2D", "raw", "last"],
                                                 ["CF-AAN", "aligned", "last"]]
    assert mars.lines[0][3:] == ["1", "50.0", "60.0", "70.0", "80.0"]
    assert revised.lines[0][3:] == ["1", "25.0", "60.0", "70.0", "80.0"]
    assert mars.title == "mars, clips all_sampled: gallery of 1,200 tracklets, 40 valid queries"
    assert revised.title == "mars_revised, clips all_sampled: gallery of 1,200 tracklets, 40 valid queries"


def test_seeds_share_a_line():
    rows = [row(seed=seed, mAP=mAP, gallery_size=size, note="pseudo-cameras")
            for seed, mAP, size in ((0, 0.5, 1200), (1, 0.6, 1190), (2, 0.7, 1200))]
    [table] = summary.tables(rows)
    assert [line[3:6] for line in table.lines] == [["3", "60.0 ± 10.0", "60.0 ± 0.0"]]
    assert table.title == (
        "mars, clips all_sampled: gallery of 1,190 to 1,200 tracklets, 40 valid queries; pseudo-cameras")


def test_other_weights_have_a_line_and_other_clips_a_table_of_their_own():
    first, second = summary.tables([row(), row(weights="best", mAP=0.7), row(clips="test", mAP=0.3)])
    assert [line[2:5] for line in first.lines] == [["last", "1", "50.0"], ["best", "1", "70.0"]]
    assert [line[2:5] for line in second.lines] == [["last", "1", "30.0"]]
    assert second.title.startswith("mars, clips test:")


def test_reranked_figures_and_other_distances_have_lines_of_their_own_and_older_files_have_neither(tmp_path):
    old = {name: value for name, value in row().items() if name not in ("reranked", "distance")}
    rows = [old, row(reranked=True, mAP=0.9), row(distance="euclidean"), row(distance="euclidean", reranked=True)]
    [table] = summary.tables(summary.collect([results(tmp_path, "a", *rows)]))
    assert [line[:5:4] for line in table.lines] == [["CF-AAN", "50.0"], ["CF-AAN, re-ranked", "90.0"], [
        "CF-AAN, euclidean", "50.0"], ["CF-AAN, euclidean, re-ranked", "50.0"]]


def test_a_run_without_a_protocol_is_left_out_of_its_table():
    first, second = summary.tables([row(), row("c2d", protocol="cfaan_released")])
    assert [line[0] for line in first.lines] == ["CF-AAN"] and [line[0] for line in second.lines] == ["C2D"]


def test_the_same_run_twice_is_refused(tmp_path):
    files = [results(tmp_path, "a", row()), results(tmp_path, "b", row(mAP=0.9))]
    check_refused("b.json and .*a.json both hold the row model cfaan, aligned False", summary.collect, files)


@pytest.mark.parametrize("text, message", [
    ("{", "no results of an evaluation"), ("[{}]", "KeyError"), ("[1]", "TypeError"), ("[]", "not a list"),
    ("7", "not a list"), ('"text"', "not a list"), ("[" * 10_000, "nested too deeply"), ("\0", "Expecting value"),
    (json.dumps([row(mAP="0.5")]), "mAP is 0.5"), (json.dumps([row(clips=[1])]), "clips is \\[1"),
    (json.dumps([row(aligned=1)]), "aligned is 1")])
def test_unreadable_results_are_refused(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    check_refused(f"results.json: .*{message}", summary.collect, [tmp_path / "results.json"])


def test_the_command(tmp_path):
    inputs = [results(tmp_path, "a", row()), results(tmp_path, "b", row("c2d"))]
    out = tmp_path / "new" / "results.json"
    command = [sys.executable, "-m", "cfaan_jax.report.summary", f"--out={out}"]
    done = subprocess.run([*command, *map(str, inputs)], capture_output=True, text=True, check=True)
    assert json.loads(out.read_text()) == [row(), row("c2d")]
    assert (tmp_path / "new" / "results.md").read_text().startswith("mars, clips all_sampled: gallery of 1,200 ")
    assert "| CF-AAN | raw       | last    |     1 | 50.0 |" in done.stdout
    assert sorted(path.name for path in out.parent.iterdir()) == ["results.json", "results.md"]
    failed = subprocess.run([*command, str(tmp_path / "missing.json")], capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stderr.startswith("error: ") and "missing.json" in failed.stderr
