import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cfaan_jax import metrics
from cfaan_jax.metrics.cameras import CameraPairs
from cfaan_jax.report import curves
from tests.data_prep.checks import check_refused

HEADER = "step,epoch,loss,triplet,id_loss,accuracy,learning_rate,clips_per_second,mAP,rank1\n"


def lines(path):
    """Names of the curves and bars in an SVG file that can stand in a page, light or dark."""
    text = path.read_text()
    assert "currentColor" in text and "prefers-color-scheme" in text and "#010203" not in text
    assert not re.search(r"(#fff(fff)?|white)\b", text), "a background"
    assert not re.search(r'xlink:href="(?!#|data:)', text), "a link"
    return {element.get("id") for element in ElementTree.fromstring(text).iter() if element.get("id")}


def texts(path):
    """What is written in an SVG file."""
    return {text.strip() for text in re.findall("<!-- (.*?) -->", path.read_text(), re.DOTALL)}


def training(folder, text):
    """The drawing of a metrics.csv with this text."""
    (folder / "metrics.csv").write_text(text)
    curves.training(folder / "metrics.csv", folder / "report" / "training.svg")
    return folder / "report" / "training.svg"


def test_training_curves(tmp_path):
    rows = [f"{step},{step // 4 + 1},{5 / step},{2 / step},{3 / step},0.5,0.0001,9.5,," for step in range(1, 13)]
    rows.insert(8, "8,2,,,,,,,0.31,0.4")
    text = HEADER + "\n".join(rows) + "\n"
    path = training(tmp_path, text)
    assert lines(path) >= {"axes_1", "axes_2", "axes_3", "axes_4"}
    assert path.read_bytes() == training(tmp_path, text).read_bytes()


def test_a_panel_without_figures_is_left_out(tmp_path):
    drawn = lines(training(tmp_path, HEADER + "1,1,5,2,3,0.5,0.0001,9.5,,\n"))
    assert "axes_3" in drawn and "axes_4" not in drawn


def test_the_loss_panel_has_whatever_losses_there_are(tmp_path):
    others = HEADER.replace("triplet,id_loss", "triplet,id_loss,centre,osm_caa,attention")
    named = texts(training(tmp_path, others + "1,1,5,,3,7,0.4,0.2,0.5,0.0001,9.5,,\n"))
    assert named >= {"loss", "id_loss", "centre", "osm_caa", "attention"} and "triplet" not in named
    assert "centre" not in texts(training(tmp_path, HEADER + "1,1,5,2,3,0.5,0.0001,9.5,,\n"))


def test_epochs_are_averaged():
    from matplotlib.figure import Figure
    axes = Figure().subplots()
    curves._by_epoch(axes, np.array([1, 1, 2, 2]), np.array([1.0, 3.0, 4.0, np.nan]), "loss")
    assert axes.lines[0].get_xydata().tolist() == [[1, 2], [2, 4]]
    curves._by_epoch(axes, np.array([1, 2]), np.array([np.nan, np.nan]), "mAP")
    assert len(axes.lines) == 1


@pytest.mark.parametrize("text, message", [
    (HEADER, "holds no row"), ("", "KeyError|holds no row"), ("step,epoch\n1,1\n", "KeyError"),
    (HEADER + "1,1,a,,,,,,,\n", "could not convert string to float")])
def test_unreadable_figures_are_refused(tmp_path, text, message):
    check_refused(f"metrics.csv.*({message})", training, tmp_path, text)
    assert [path.name for path in tmp_path.rglob("*")] == ["metrics.csv"]


def test_curves_of_scores(tmp_path):
    scores = metrics.score_all([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2]], [1, 2], [1, 2, 3], [1, 1], [2, 2, 2],
                               ["mars", "mars_revised"])
    curves.cmc(scores, tmp_path / "cmc.svg")
    curves.precision(scores["mars"], tmp_path / "precision.svg")
    assert "legend_1" in lines(tmp_path / "cmc.svg") and "patch_20" in lines(tmp_path / "precision.svg")


def test_camera_pairs(tmp_path):
    pairs = CameraPairs(np.array([3, 7]), np.array([[np.nan, 0.5], [0.9, np.nan]]), np.array([[0, 4], [5, 0]]))
    curves.cameras(pairs, tmp_path / "cameras.svg")
    written = texts(tmp_path / "cameras.svg")
    assert {"50.0", "(4)", "90.0", "(5)", "3", "7"} <= set(" ".join(written).split()) and "nan" not in written
