"""What bfloat16, or another device, changes in the features and the mAP of trained networks.

    python -m benchmarks.precision --out=precision.json runs/quickstart/cfaan-aligned [MORE...]

Every argument is the workdir of a finished run. Its evaluation left features (float32, on the machine where it ran).
They are computed again, in float32 and as `config.model.compute=bfloat16` does it, on the device that JAX finds, and
compared with those: largest difference as a share of the largest value, cosine of the least alike
tracklet, mAP.
"""

import json
from pathlib import Path

import jax
import numpy as np

from benchmarks import command
from cfaan_jax import models
from cfaan_jax.evaluate import evaluate
from cfaan_jax.experiment.checkpoint import restore_model
from cfaan_jax.metrics.search import Search
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show


def main(arguments: list[str] | None = None) -> None:
    parser = command("precision", __doc__)
    parser.add_argument("workdirs", type=Path, nargs="+", help="finished runs")
    flags = parser.parse_args(arguments)
    rows = [row for workdir in flags.workdirs for row in compare(workdir)]
    flags.out.write_text(json.dumps(rows, indent=2) + "\n")
    show(f"features computed on {jax.devices()[0].device_kind} against those in the workdir",
         ["run", "numbers", "largest difference", "lowest cosine", "mAP there", "mAP here"],
         [[row["run"], row["numbers"], f"{row['difference']:.2e}", f"{row['cosine']:.6f}", f"{100 * row['there']:.2f}",
           f"{100 * row['here']:.2f}"] for row in rows])


def compare(workdir: Path) -> list[dict]:
    """One row for float32, one for bfloat16."""
    model, config = restore_model(workdir, "last")
    stored = Search.load(workdir / f"features-last-{config.eval.clips}.npz")
    rows = []
    for numbers in models.COMPUTE:
        model.backbone.compute = numbers
        found = evaluate.search({"last": model}, config, config.eval.clips)["last"]
        dots = (found.features * stored.features).sum(1)
        lengths = np.linalg.norm(found.features, axis=1) * np.linalg.norm(stored.features, axis=1)
        rows.append({
            "run": str(workdir), "numbers": numbers, "device": jax.devices()[0].device_kind,
            "difference": float(np.abs(found.features - stored.features).max() / np.abs(stored.features).max()),
            "cosine": float((dots / lengths).min()),
            **{where: float(each.score(["mars"])["mars"].mAP) for where, each in (("there", stored), ("here", found))}})
    return rows


if __name__ == "__main__":
    run_command(main)
