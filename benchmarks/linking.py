"""How often the kept box shows the tracklet's own person when a second one crosses, by the truth of the synthetic set.

    python -m benchmarks.linking --out=linking.json runs/quickstart [MORE...]

Every argument is a folder written by launch/quickstart.sh: `synthetic/truth.json` says where the persons are drawn,
`records/raw` holds the frames as they are (no Re-Detect and Link), `records/aligned` those linked by IDE features.
This command adds `records/largest`, linked by the largest box, with the same detector.

It counts the frames of tracklets with a planted crossing in which at least a tenth of the other person is inside the
crop. A frame is correct if the intersection over union of the kept box and the own person's box (its part inside the
crop) is at least 0.5, and higher than with the other person's box. Linking decides only where the detector detects two
persons or more; these frames are also shown separately.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import build_tfrecords, command
from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklet_record import SPLITS
from cfaan_jax.report.summary import mean
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

METRICS = {"right": "own person", "other": "the other", "right_of_two": "own person, 2+ detected",
           "other_of_two": "the other, 2+ detected"}
METHODS = {"raw": "no Re-Detect and Link", "largest": "always the largest box", "aligned": "IDE features"}


def main(arguments: list[str] | None = None) -> None:
    parser = command("linking", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of quickstarts, one a seed")
    flags = parser.parse_args(arguments)
    results = {}
    for run in flags.runs:
        _build_largest(run)
        results[str(run)] = {method: measure(run / "synthetic", run / "records" / method) for method in METHODS}
    flags.out.write_text(json.dumps(results, indent=2) + "\n")
    rows = [[name, *(mean([result[method][metric] for result in results.values()], decimals=1) for metric in METRICS)]
            for method, name in METHODS.items()]
    frames, choices = (", ".join(str(result["aligned"][name]) for result in results.values())
                       for name in ("frames", "choices"))
    show(f"frames with a second person inside the crop ({frames}; two or more detected in {choices}), per cent",
         ["kept box", *METRICS.values()], rows)


def measure(synthetic: Path, records: Path) -> dict[str, float]:
    """Shares of the frames in which the kept box shows the own person or the other one, see `METRICS`."""
    truth = json.loads((synthetic / "truth.json").read_text())["tracklets"]
    own, other, candidates = np.array(list(_overlaps(truth, records))).T
    right, wrong, choice = (own >= 0.5) & (own > other), other > own, candidates > 1
    return {"frames": len(own), "choices": int(choice.sum()),
            **{name: float(values.mean()) for name, values in zip(
                METRICS, (right, wrong, right[choice], wrong[choice]), strict=True)}}


def _overlaps(truth: dict, records: Path) -> Iterator[tuple[float, float, int]]:
    """Per counted frame the overlaps of the kept box with the own person and the other, and the number of persons."""
    for split in SPLITS:
        cut, aligned = RecordSet.open(records, split), RecordSet.open(records.parent / "aligned", split)
        for position, name in enumerate(cut.names):
            planted = truth[name]
            if planted["passing"] == "none" or planted["other"] is None:
                continue
            for box, candidates, own, other in zip(cut.record(position).boxes, aligned.record(position).candidates,
                                                   planted["own"], planted["other"], strict=True):
                if other is not None and _area(_inside(other)) >= 0.1 * _area(other):
                    yield _overlap(box, _inside(own)), _overlap(box, _inside(other)), candidates


def _inside(box: list[float], size: tuple[int, int] = (256, 128)) -> np.ndarray:
    """The part of a box (y0, y1, x0, x1) inside the crop."""
    return np.clip(box, 0, [size[0], size[0], size[1], size[1]])


def _area(box) -> float:
    return float((box[1] - box[0]) * (box[3] - box[2]))


def _overlap(a, b) -> float:
    rows, columns = min(a[1], b[1]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[2], b[2])
    common = max(rows, 0) * max(columns, 0)
    return float(common / (_area(a) + _area(b) - common))


def _build_largest(run: Path) -> None:
    """Links the synthetic set of a run by the largest box, with the settings of `records/aligned`."""
    settings = load_manifest(run / "records/aligned")["settings"]
    flags = {"dataset": "synthetic", "root": run / "synthetic", "seed": settings["seed"],
             "identities": settings["identities"], "out": run / "records/largest", "detector": settings["detector"],
             "linker": "largest"}
    build_tfrecords(f"--{name}={value}" for name, value in flags.items())


if __name__ == "__main__":
    run_command(main)
