"""Curves of training and of scores, as SVG files for a light and a dark page."""

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfaan_jax.errors import InputError, reason
from cfaan_jax.experiment.metric_log import METERS
from cfaan_jax.metrics import Score
from cfaan_jax.metrics.cameras import CameraPairs
from cfaan_jax.runtime.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Label of every panel, and its columns of metrics.csv; columns in none of them are losses.
_PANELS = (("accuracy on the batch", ("accuracy",)), ("learning rate", ("learning_rate",)),
           ("periodic evaluation", ("mAP", "rank1")))
_REQUIRED = ("step", "epoch", *(name for _, names in _PANELS for name in names))
_INK = "#010203"  # stands for the colour of the page's text, which replaces it
_STYLE = {f"{part}color": _INK for part in ("text.", "axes.label", "axes.edge", "xtick.", "ytick.", "grid.")}
_STYLE |= {"legend.framealpha": 0, "svg.hashsalt": "the same file every time"}
_LIGHT_AND_DARK = "<style>svg{color:#1b1f24}@media (prefers-color-scheme:dark){svg{color:#e6e9ec}}</style>"


@contextmanager
def _axes(path: Path, width: float = 8, height: float = 4.5, side: int = 1) -> Iterator[Any]:
    """The axes, side x side, of a figure of so many inches that is written to an SVG file at the end."""
    import matplotlib  # here: it takes a second to import, and most commands draw nothing
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure, text = Figure(figsize=(width, height), layout="constrained"), io.StringIO()
        yield figure.subplots(side, side)
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue().replace(_INK, "currentColor")
    write_atomic(path, svg.replace("<defs>", f"{_LIGHT_AND_DARK}<defs>", 1))


def cmc(scores: Mapping[str, Score], path: Path) -> None:
    """Writes the CMC curves of all protocols, with their sizes."""
    with _axes(path) as axes:
        for name, score in scores.items():
            label = f"{name}: mAP {score.mAP:.1%}, gallery {score.gallery_size:,}, {score.num_valid:,} valid queries"
            axes.plot(np.arange(1, len(score.cmc) + 1), 100 * score.cmc, label=label,
                      linestyle="--" if name.endswith("_revised") else "-")
        axes.set(xlabel="rank", ylabel="queries with a right answer up to this rank (%)", xlim=(1, None), ylim=(0, 101))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")


def precision(score: Score, path: Path) -> None:
    """Writes a histogram of the average precision of the valid queries."""
    with _axes(path) as axes:
        axes.hist(100 * score.ap, bins=np.linspace(0, 100, 21), edgecolor=_INK, linewidth=0.5)
        axes.axvline(100 * score.ap.mean(), color=_INK, linestyle="--", label=f"mean {score.ap.mean():.1%}")
        axes.set(xlabel="average precision (%)", ylabel="valid queries", xlim=(0, 100))
        axes.grid(alpha=0.3, axis="y")
        axes.set_axisbelow(True)
        axes.legend(fontsize=8)


def cameras(pairs: CameraPairs, path: Path) -> None:
    """Writes the mAP and the number of valid queries of every pair of cameras."""
    count = len(pairs.cameras)
    with _axes(path, 1.2 + 0.9 * count, 1 + 0.8 * count) as axes:
        axes.imshow(100 * pairs.mAP, vmin=0, vmax=100, cmap="viridis")
        for row, column in zip(*np.nonzero(pairs.queries), strict=True):
            mean = 100 * pairs.mAP[row, column]
            axes.text(column, row, f"{mean:.1f}\n({pairs.queries[row, column]})", ha="center", va="center", fontsize=8,
                      color="black" if mean > 60 else "white")
        axes.set_xticks(np.arange(count), pairs.cameras)
        axes.set_yticks(np.arange(count), pairs.cameras)
        axes.set(xlabel="camera of the gallery", ylabel="camera of the query")


def training(metrics_csv: Path, path: Path) -> None:
    """Writes the curves of a run's metrics.csv over its epochs; InputError where it has no readable row."""
    columns = _read(metrics_csv)
    panels = (("loss", [name for name in columns if name not in (*_REQUIRED, *METERS)]), *_PANELS)
    with _axes(path, 10, 6, 2) as grid:
        for axes, (label, names) in zip(grid.flat, panels, strict=True):
            for name in names:
                _by_epoch(axes, columns["epoch"], columns[name], name)
            axes.set(xlabel="epoch", ylabel=label)
            axes.grid(alpha=0.3)
            axes.set_visible(bool(axes.lines))
            if len(axes.lines) > 1:
                axes.legend(fontsize=8)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = dict.fromkeys(("loss", *_REQUIRED, *(reader.fieldnames or ())))
            rows = list(reader)
        columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in names if name is not None}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: not a log of training ({reason(error)}); delete or restore it") from error
    if not rows:
        raise InputError(f"{path}: holds no row; train first")
    return columns


def _by_epoch(axes: "Axes", epochs: np.ndarray, values: np.ndarray, name: str) -> None:
    """Plots the mean of every epoch, since single steps of a PK sampler scatter widely."""
    present = ~np.isnan(values)
    if present.any():
        numbers = np.unique(epochs[present])
        means = [values[present & (epochs == number)].mean() for number in numbers]
        axes.plot(numbers, means, label=name, marker="." if len(numbers) < 30 else None)
