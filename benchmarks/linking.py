"""How often the kept box shows the tracklet's own person, when a second one crosses: measured on the synthetic truth.

    python -m benchmarks.linking --out=linking.json runs/quickstart [MORE...]

Every argument is a folder that launch/quickstart.sh left: `synthetic/truth.json` says where the persons are drawn,
`records/raw` holds the frames as they are (no Re-Detect and Link), `records/aligned` those linked by IDE features.
Records linked by the largest box are made beside them, `records/largest`, with the same detector.

Counted are the frames of tracklets with a planted crossing in which at least a tenth of the other person lies inside
the crop. A frame is right when the kept box overlaps the own person's box (the part inside the crop) by an
intersection over union of at least 0.5, and more than the other's. Linking can decide only where the detector found
two persons or more; these frames are shown apart as well.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import command
from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklet_record import SPLITS
from cfaan_jax.report.summary import mean
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

FIGURES = {"right": "own person", "other": "the other", "right_of_two": "own person, 2+ found",
           "other_of_two": "the other, 2+ found"}
METHODS = {"raw": "no Re-Detect and Link", "largest": "always the largest box", "aligned": "IDE features"}


def main(arguments: list[str] | None = None) -> None:
    parser = command("linking", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of quickstarts, one a seed")
    flags = parser.parse_args(arguments)
    found = {}
    for run in flags.runs:
        _make_largest(run)
        found[str(run)] = {method: measure(run / "synthetic", run / "records" / method) for method in METHODS}
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    lines = []
    for method, name in METHODS.items():
        own = [seed[method] for seed in found.values()]
        lines.append([name, *(mean([each[figure] for each in own], decimals=1) for figure in FIGURES)])
    frames, choices = (", ".join(str(seed["aligned"][name]) for seed in found.values())
                       for name in ("frames", "choices"))
    show(f"frames with a second person inside the crop ({frames}; two or more found in {choices}), per cent",
         ["kept box", *FIGURES.values()], lines)


def measure(synthetic: Path, records: Path) -> dict[str, float]:
    """Shares of the frames in which the kept box shows the own person or rather the other one, see `FIGURES`."""
    truth = json.loads((synthetic / "truth.json").read_text())["tracklets"]
    own, other, candidates = np.array(list(_overlaps(truth, records))).T
    right, wrong, choice = (own >= 0.5) & (own > other), other > own, candidates > 1
    return {"frames": len(own), "choices": int(choice.sum()),
            **{name: float(values.mean()) for name, values in zip(
                FIGURES, (right, wrong, right[choice], wrong[choice]), strict=True)}}


def _overlaps(truth: dict, records: Path) -> Iterator[tuple[float, float, int]]:
    """For every frame that counts: overlap of the kept box with the own person and the other, and persons found."""
    for split in SPLITS:
        part, found = RecordSet.open(records, split), RecordSet.open(records.parent / "aligned", split)
        for position, name in enumerate(part.names):
            planted = truth[name]
            if planted["passing"] == "none" or planted["other"] is None:
                continue
            for kept, candidates, own, other in zip(part.record(position).boxes, found.record(position).candidates,
                                                    planted["own"], planted["other"], strict=True):
                if other is not None and _area(_inside(other)) >= 0.1 * _area(other):
                    yield _overlap(kept, _inside(own)), _overlap(kept, _inside(other)), candidates


def _inside(box: list[float], size: tuple[int, int] = (256, 128)) -> np.ndarray:
    """The part of a box (y0, y1, x0, x1) inside the crop."""
    return np.clip(box, 0, [size[0], size[0], size[1], size[1]])


def _area(box) -> float:
    return float((box[1] - box[0]) * (box[3] - box[2]))


def _overlap(a, b) -> float:
    rows, columns = min(a[1], b[1]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[2], b[2])
    common = max(rows, 0) * max(columns, 0)
    return float(common / (_area(a) + _area(b) - common))


def _make_largest(run: Path) -> None:
    """Links the synthetic set of a run by the largest box, with the settings of `records/aligned`."""
    settings = load_manifest(run / "records/aligned")["settings"]
    flags = {"dataset": "synthetic", "root": run / "synthetic", "seed": settings["seed"],
             "identities": settings["identities"], "out": run / "records/largest", "detector": settings["detector"],
             "linker": "largest"}
    subprocess.run([sys.executable, "data_prep/build_tfrecords.py",
                    *(f"--{name}={value}" for name, value in flags.items())], check=True)


if __name__ == "__main__":
    run_command(main)
