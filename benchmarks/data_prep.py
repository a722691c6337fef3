"""The share of Re-Detect and Link's time outside detector and linker.

    python -m benchmarks.data_prep --out=data_prep.json --root=FOLDER --dataset=synthetic --detector=... --linker=...

All flags except --out go to data_prep/build_tfrecords.py, which runs once with one thread into a new folder, so that
stages do not wait for one another and their times add up to the wall time of the run.
"""

import json
import tempfile
from pathlib import Path

from benchmarks import build_tfrecords, command
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show


def main(arguments: list[str] | None = None) -> None:
    parser = command("data_prep", __doc__)
    flags, build = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        build_tfrecords([*build, f"--out={folder}/records", "--workers=1"])
        summary = json.loads(Path(folder, "records/summary.json").read_text())
    wall = summary["frames"] / summary["frames_per_second"]
    inside = sum(summary["stages"][name]["seconds"] for name in ("detect", "link"))
    outside = 1 - inside / wall
    result = {"wall_seconds": wall, "frames_per_second": summary["frames_per_second"], "stages": summary["stages"],
              "outside_share": outside}
    flags.out.write_text(json.dumps(result, indent=2) + "\n")
    show(f"{summary['frames']:,} frames in {wall:.1f} s, one thread: {100 * outside:.1f} % of the time outside "
         "detector and linker", ["stage", "seconds", "% of the wall time"],
         [[name, f"{stage['seconds']:.1f}", f"{100 * stage['seconds'] / wall:.1f}"]
          for name, stage in summary["stages"].items()])


if __name__ == "__main__":
    run_command(main)
