"""Whether the label review puts planted errors first, and what true corrections do to the figures.

    python -m benchmarks.suspects --out=suspects.json runs/seed-0 runs/seed-1 runs/seed-2

Takes folders of quickstarts. A reviewer looks at the first N tracklets of the list; recall is the share of the planted
errors of a kind among them. Then the true labels, from corrections.csv, are scored under a revised protocol, and the
same labels, from truth.json, as if the data set had had them from the beginning: the two mAP must be equal.
"""

import json
from pathlib import Path

import numpy as np

from benchmarks import command
from cfaan_jax import metrics
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.search import Search
from cfaan_jax.report.label_review import suspects
from cfaan_jax.report.label_review.review import count_crowded
from cfaan_jax.report.summary import mean
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

FAULTS = {"wrong identity": "wrong identity", "duplicate": "duplicate among the distractors",
          "ambiguous": "two persons"}
LOOKED_AT = (15, 30, 60, 90)
_PROTOCOL = "mars_revised"


def main(arguments: list[str] | None = None) -> None:
    parser = command("suspects", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of quickstarts, one a seed")
    parser.add_argument("--network", default="cfaan-aligned", help="folder of the run in each (default cfaan-aligned)")
    flags = parser.parse_args(arguments)
    found = {str(run): measure(run, flags.network) for run in flags.runs}
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    seeds = list(found.values())
    lines = [[name, ", ".join(str(seed["planted"][fault]) for seed in seeds),
              *(mean([seed["recall"][fault][str(n)] for seed in seeds], decimals=0) for n in LOOKED_AT)]
             for fault, name in FAULTS.items()]
    show(f"planted errors among the first N of {seeds[0]['tracklets']} test tracklets, {flags.network}, per cent",
         ["error", "planted", *(f"N = {n}" for n in LOOKED_AT)], lines,
         [f"{_PROTOCOL}, seed by seed: labels as they are {_figures(seeds, 'stored')}, true corrections applied "
          f"{_figures(seeds, 'corrected')}, clean labels {_figures(seeds, 'clean')}"])


def measure(run: Path, network: str) -> dict:
    """Recall by fault and number looked at, and mAP with stored, corrected and clean labels."""
    if not (run / "synthetic/truth.json").is_file():
        raise InputError(f"{run}: holds no synthetic/truth.json; give the --out of bash launch/quickstart.sh")
    truth = json.loads((run / "synthetic/truth.json").read_text())["tracklets"]
    found = Search.load(run / network / "features-last-all_sampled.npz")
    parts = [RecordSet.open(run / "records/aligned", split) for split in ("query", "gallery")]
    order = [suspect.row for suspect in suspects.find(found, count_crowded(parts))]
    kinds = np.array([truth[name]["kind"] for name in found.names])
    recall = {fault: {str(n): float(np.isin(np.flatnonzero(kinds == fault), order[:n]).mean()) for n in LOOKED_AT}
              for fault in FAULTS}
    corrected = found.score(_PROTOCOL, run / "synthetic/corrections.csv")[_PROTOCOL]
    return {"tracklets": len(kinds), "planted": {fault: int((kinds == fault).sum()) for fault in FAULTS},
            "recall": recall, "stored": found.score(_PROTOCOL)[_PROTOCOL].mAP, "corrected": corrected.mAP,
            "clean": _clean_mAP(found, truth)}


def _clean_mAP(found: Search, truth: dict) -> float:
    """Straight from the truth, past corrections and their reader."""
    pids, second = (np.array([truth[name][field] for name in found.names]) for field in ("pid", "second_pid"))
    rows, q = found.gallery(protocols.get(_PROTOCOL)), found.num_queries
    return metrics.score(found.distances()[:, rows], pids[:q], pids[rows], found.camids[:q], found.camids[rows],
                         _PROTOCOL, second[:q], second[rows]).mAP


def _figures(seeds: list[dict], name: str) -> str:
    return ", ".join(f"{100 * seed[name]:.6f}" for seed in seeds)


if __name__ == "__main__":
    run_command(main)
