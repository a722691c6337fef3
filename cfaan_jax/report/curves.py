"""Curves of a training run and of the scores that came of it."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfaan_jax.errors import InputError
from cfaan_jax.files import written_whole
from cfaan_jax.metrics import Score
from cfaan_jax.metrics.cameras import CameraPairs

# One panel each: its label and the columns of metrics.csv in it.
_PANELS = (("loss", ("loss", "triplet", "id_loss")), ("accuracy on the batch", ("accuracy",)),
           ("learning rate", ("learning_rate",)), ("periodic evaluation", ("mAP", "rank1")))


def cmc(scores: Mapping[str, Score], path: Path, title: str) -> None:
    """Writes a PNG with the CMC curve of every protocol, each with its sizes."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, score in scores.items():
        label = f"{name}: mAP {score.mAP:.1%}, gallery {score.gallery_size:,}, {score.num_valid:,} valid queries"
        axes.plot(np.arange(1, len(score.cmc) + 1), 100 * score.cmc, label=label,
                  linestyle="--" if name.endswith("_revised") else "-")
    axes.set(xlabel="rank", ylabel="queries with a right answer so far (%)", xlim=(1, None), ylim=(0, 101))
    axes.set_title(title, fontsize=9, wrap=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    _save(figure, path)


def cameras(pairs: CameraPairs, path: Path, title: str) -> None:
    """Writes a PNG with the mAP and the number of valid queries of every pair of cameras."""
    figure = Figure(figsize=(1.2 + 0.9 * len(pairs.cameras), 1.6 + 0.8 * len(pairs.cameras)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(100 * pairs.mAP, vmin=0, vmax=100, cmap="viridis")
    for row, column in zip(*np.nonzero(pairs.queries), strict=True):
        mean = 100 * pairs.mAP[row, column]
        axes.text(column, row, f"{mean:.1f}\n({pairs.queries[row, column]})", ha="center", va="center", fontsize=8,
                  color="black" if mean > 60 else "white")
    ticks = np.arange(len(pairs.cameras))
    axes.set_xticks(ticks, pairs.cameras)
    axes.set_yticks(ticks, pairs.cameras)
    axes.set(xlabel="camera of the gallery", ylabel="camera of the query (number of valid queries)")
    axes.set_title(title, fontsize=8, wrap=True)
    _save(figure, path)


def training(metrics_csv: Path, path: Path) -> None:
    """Writes a PNG of the figures in a run's metrics.csv against its epochs.

    Raises:
        InputError: the file has no readable row.
    """
    columns = _read(metrics_csv)
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (label, names) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for name in names:
            _by_epoch(axes, columns["epoch"], columns[name], name)
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend(fontsize=8)
    _save(figure, path)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        names = ("epoch", *(name for _, names in _PANELS for name in names))
        columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: no readable training figures ({type(error).__name__}: {error}); delete it, or "
                         "restore what training wrote") from error
    if not rows:
        raise InputError(f"{path}: holds no row yet; train first")
    return columns


def _by_epoch(axes: Axes, epochs: np.ndarray, values: np.ndarray, name: str) -> None:
    """Plots the mean of every epoch, since single steps of a PK sampler scatter widely."""
    there = ~np.isnan(values)
    if there.any():
        numbers = np.unique(epochs[there])
        means = [values[there & (epochs == number)].mean() for number in numbers]
        axes.plot(numbers, means, label=name, marker="." if len(numbers) < 30 else None)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        figure.savefig(file, format="png", dpi=110)
