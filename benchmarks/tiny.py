"""The smallest experiment that goes through everything, for `robustness.soak` and `robustness.kill`."""

from pathlib import Path

SETTINGS = {
    "model.width": 4, "model.depths": "(1,1,1,1)", "data.image_size": "(32,16)", "data.clip_length": 2,
    "data.identities": 2, "data.tracklets": 2, "data.workers": 1, "eval.batch": 16, "eval.report_lists": 4,
    "optim.learning_rate": 1e-4}


def data_words(root: Path, out: Path) -> list[str]:
    """Words of the command that draws eight people and packs them."""
    return [f"--root={root}", f"--out={out}", "--dataset=synthetic", "--identities=8", "--detector=none",
            "--shard_size=4", "--workers=2"]


def train_words(records: Path, workdir: Path, **fields) -> list[str]:
    """Words of the main command; fields as in `train__epochs=3`."""
    settings = SETTINGS | {"data.records": records} | {name.replace("__", "."): value for name, value in fields.items()}
    return ["--config=configs/quickstart.py:c2d", f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in settings.items())]
