"""How far features on this device lie from those of the authors' code, by kind of number.

    python -m benchmarks.golden --out=golden.json [--networks=c2d,cfaan]

Whole networks at full size with seeded random weights, against the arrays of tests/golden, which the authors' code gave
in float32 on a CPU: float32 with full products, float32 as JAX multiplies by default (TF32 on GPUs), and bfloat16.
"""

import json

import jax
import numpy as np
from flax import nnx

from benchmarks import command, names
from cfaan_jax.models import VideoReID
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show
from tests.golden_cases import Case
from tests.models.test_full_models import clips, network

_FILE = "full_models_eval"
_NETWORKS = ("c2d", "nonlocal", "cfaan")
# How JAX multiplies, and `config.model.compute`.
_NUMBERS = {"float32, full products": ("highest", "float32"), "float32, JAX's default": ("default", "float32"),
            "bfloat16": ("default", "bfloat16")}


def main(arguments: list[str] | None = None) -> None:
    parser = command("golden", __doc__)
    parser.add_argument("--networks", type=names(_NETWORKS), default=("c2d", "cfaan"),
                        help=f"of {', '.join(_NETWORKS)} (c2d,cfaan)")
    flags = parser.parse_args(arguments)
    rows = [row for name in flags.networks for row in compare(Case(_FILE, name))]
    device = jax.devices()[0].device_kind
    flags.out.write_text(json.dumps({"device": device, "jax": jax.__version__, "rows": rows}, indent=2) + "\n")
    show(f"features on {device} against the authors' on a CPU",
         ["network", "numbers", "largest difference", "as a share", "lowest cosine"],
         [[row["network"], row["numbers"], f"{row['difference']:.2e}", f"{row['share']:.2e}", f"{row['cosine']:.7f}"]
          for row in rows])


def compare(case: Case) -> list[dict]:
    """A row for each kind of number: with the whole clips, and with the mask of each frame."""
    model, rows = network(case), []
    inputs = clips(case.settings["clip_seed"], case.settings["clip_shape"]), case["masks"].astype(np.int32)
    expected = np.concatenate([case["feature"], case["feature_masked"]])
    for numbers, (precision, compute) in _NUMBERS.items():
        model.backbone.compute = compute
        with jax.default_matmul_precision(precision):
            found = features(model, *inputs)
        dots = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        off = float(np.abs(found - expected).max())
        rows.append({"network": case.name, "numbers": numbers, "difference": off,
                     "share": off / float(np.abs(expected).max()), "cosine": float(dots.min())})
    return rows


def features(model: VideoReID, clips: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """Features of clips, float32 `[2 B, D]`: whole ones, then masked ones."""
    graph, state = nnx.split(model)

    @jax.jit
    def both(state, clips, rectangles):
        model = nnx.merge(graph, state)
        return jax.numpy.concatenate([model.features(clips), model.features(clips, rectangles)])

    return np.asarray(both(state, clips, rectangles))


if __name__ == "__main__":
    run_command(main)
