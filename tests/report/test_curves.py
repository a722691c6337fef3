import numpy as np
import pytest
from PIL import Image

from cfaan_jax import metrics
from cfaan_jax.errors import InputError
from cfaan_jax.report import curves

HEADER = "step,epoch,loss,triplet,id_loss,accuracy,learning_rate,clips_per_second,mAP,rank1\n"


def drawn(path):
    """Share of pixels that are not white, in a PNG."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return (pixels.min(axis=2) < 200).mean()


def test_training_curves(tmp_path):
    rows = [f"{step},{step // 4 + 1},{5 / step},{2 / step},{3 / step},0.5,0.0001,9.5,," for step in range(1, 13)]
    rows.insert(8, "8,2,,,,,,,0.31,0.4")
    (tmp_path / "metrics.csv").write_text(HEADER + "\n".join(rows) + "\n")
    curves.training(tmp_path / "metrics.csv", tmp_path / "report" / "training.png")
    assert 0.005 < drawn(tmp_path / "report" / "training.png") < 0.5


def test_epochs_are_averaged():
    from matplotlib.figure import Figure
    axes = Figure().subplots()
    curves._by_epoch(axes, np.array([1, 1, 2, 2]), np.array([1.0, 3.0, 4.0, np.nan]), "loss")
    assert axes.lines[0].get_xydata().tolist() == [[1, 2], [2, 4]]
    curves._by_epoch(axes, np.array([1, 2]), np.array([np.nan, np.nan]), "mAP")
    assert len(axes.lines) == 1


@pytest.mark.parametrize("text, message", [
    (HEADER, "holds no row"), ("", "KeyError|holds no row"), ("step,epoch\n1,1\n", "KeyError"),
    (HEADER + "1,1,a,,,,,,,\n", "ValueError"),
])
def test_unreadable_figures_are_refused(tmp_path, text, message):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(InputError, match=f"metrics.csv.*({message})"):
        curves.training(tmp_path / "metrics.csv", tmp_path / "training.png")
    assert not (tmp_path / "training.png").exists()


def test_cmc_curves(tmp_path):
    scores = metrics.score_all([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2]], [1, 2], [1, 2, 3], [1, 1], [2, 2, 2],
                               ["mars", "mars_revised"])
    curves.cmc(scores, tmp_path / "cmc.png", "cfaan, raw tracklets of synthetic")
    assert 0.005 < drawn(tmp_path / "cmc.png") < 0.5
