"""What runs leave in their folders."""

import csv
import json
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from cfaan_jax.experiment.checkpoint import Checkpoints


def rows(workdir: Path) -> list[dict[str, str]]:
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results(workdir: Path) -> list[dict]:
    return json.loads((workdir / "results.json").read_text())


def losses(workdir: Path) -> list[float]:
    return [float(row["loss"]) for row in rows(workdir) if row["loss"]]


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Network and optimiser in the checkpoint `last`, whatever devices wrote it."""
    stored = {}
    with Checkpoints(workdir, read_only=True) as checkpoints, ocp.StandardCheckpointer() as reader:
        for item in ("model", "optimizer"):
            folder = workdir / "checkpoints/last" / str(checkpoints.step("last")) / item
            shapes = {name: np.empty(leaf.shape, leaf.dtype)
                      for name, leaf in reader.metadata(folder).item_metadata.tree.items()}
            stored |= {f"{item}/{name}": value for name, value in reader.restore(folder, shapes).items()}
    return stored
