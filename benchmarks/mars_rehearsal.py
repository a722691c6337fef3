"""A rehearsal of training and testing on MARS, at its real size, and what the whole schedule would take.

    python -m benchmarks.mars_rehearsal --out=rehearsal.json [--info=FOLDER] [--variant=cfaan] [--steps=78]

Records are written with the tracklets of MARS, each in its length, identity and camera: those of its .mat files
(`--info`), or drawn to its totals. Their frames are a few pictures made by code, again and again. Then the program's
own sampler, loader, training step, checkpoints, evaluation and scores run for a while, and their rates give the whole:
`config.train.epochs` epochs, periodic evaluations, and all frames of the test split by the last and the best weights.
The table says of every line whether it was measured or projected. `--records` keeps the records (about 3 GB with
frames of 2 kB; those of MARS have about 9). `--trace` keeps what the devices did in the last five steps.
"""

import argparse
import csv
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

import jax
from ml_collections import ConfigDict

from benchmarks import command, mars_config, mars_sizes, seconds, whole
from benchmarks.mars_records import first, write_records
from benchmarks.scoring import drawn_search
from cfaan_jax.data.loader import ClipBatches
from cfaan_jax.evaluate.evaluate import test_records
from cfaan_jax.evaluate.features import extract
from cfaan_jax.experiment.checkpoint import Checkpoints, restore_model
from cfaan_jax.experiment.config import save_or_check_config
from cfaan_jax.experiment.fields import CHECKPOINT_KINDS
from cfaan_jax.metrics import protocols
from cfaan_jax.models.resnet import EXPANSION
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.interrupt import StopSignal
from cfaan_jax.runtime.text_tables import show
from cfaan_jax.train import loop
from cfaan_jax.train.meters import METERED_STEPS
from cfaan_jax.train.step import named_arrays
from data_prep.datasets.mars import Metadata

# Meters that not every device has.
_METERS = {"device_peak_gib": "The most memory of a device: {:.1f} GiB.",
           "model_flops_utilisation": "{:.1%} of the peak that the device's maker states for this kind of number."}


@dataclass(frozen=True)
class Line:
    """One kind of work: how often the schedule has it, and the seconds of one as they were measured.

    Attributes:
        sample: how many were measured; where that is `times`, nothing is projected.
    """

    what: str
    times: int
    seconds: float
    sample: int

    @property
    def total(self) -> float:
        return self.times * self.seconds

    @property
    def kind(self) -> str:
        return "measured" if self.sample == self.times else f"projected from {self.sample:,}"


def main(arguments: list[str] | None = None) -> None:
    flags = _flags(arguments)
    config = mars_config.chosen(flags)
    found = mars_sizes.metadata(flags.info)
    with tempfile.TemporaryDirectory() as scratch:
        config.data.records = str(flags.records or Path(scratch) / "records")
        size = write_records(Path(config.data.records), found, flags.frame_kb)
        lines, speed = _trained(config, Path(scratch) / "run", flags.steps, flags.trace)
        lines += _tested(config, Path(scratch) / "run", flags.batches)
    lines += _scored(config, found)
    total = sum(line.total for line in lines)
    about = {"device": f"{jax.device_count()} x {jax.devices()[0].device_kind}", "cores": os.cpu_count(),
             "machine": platform.machine(), "jax": jax.__version__, "sizes": found.sizes(),
             "tracklets": mars_sizes.described(flags.info), "frame_bytes": size, "config": config.to_dict(), **speed}
    rows = [asdict(line) | {"total": line.total, "kind": line.kind} for line in lines]
    flags.out.write_text(json.dumps({"about": about, "lines": rows, "total": total}, indent=2) + "\n")
    show(f"{config.train.epochs} epochs of {flags.variant} in {config.model.compute} on {about['device']}: "
         f"{_hours(total)}", ["work", "times", "seconds each", "in all", "known how"],
         [[line.what, f"{line.times:,}", f"{line.seconds:.3g}", _hours(line.total), line.kind] for line in lines],
         _notes(flags, about))


def _flags(arguments: list[str] | None) -> argparse.Namespace:
    parser = command("mars_rehearsal", __doc__)
    parser.add_argument("--info", type=Path, help="MARS's info folder; unset: tracklets are drawn to its totals")
    parser.add_argument("--trace", type=Path, help="folder for a trace of the last five steps; unset: none")
    parser.add_argument("--records", type=Path, help="folder for the records, kept; unset: a temporary one")
    parser.add_argument("--frame_kb", type=float, default=2.0, help="most kB of a stored frame (default 2)")
    mars_config.add_flags(parser)
    parser.add_argument("--steps", type=whole(), default=78, help="training steps to measure (default 78, an epoch)")
    parser.add_argument("--batches", type=whole(), default=100,
                        help="test batches to measure, of each kind (default 100)")
    return parser.parse_args(arguments)


class _Timed(Checkpoints):
    """Notes how long each checkpoint took."""

    def __init__(self, workdir: Path):
        super().__init__(workdir)
        self.seconds: list[float] = []

    def save(self, *arguments, **trees) -> None:
        self.seconds.append(seconds(lambda: super(_Timed, self).save(*arguments, **trees)))


def _trained(config: ConfigDict, workdir: Path, steps: int, trace: Path | None) -> tuple[list[Line], dict]:
    """Trains one step, which compiles, then so many more; also medians of the meters, and the cores had."""
    schedule, config = config.train, config.copy_and_resolve_references()
    config.train.evaluate_every = 0
    if trace is not None:
        config.train.profile = (max(2, steps - 3), 1 + steps)
    save_or_check_config(config, workdir)
    sampler = loop.training_sampler(config)
    with StopSignal() as stop, _Timed(workdir) as checkpoints:
        began, busy = time.perf_counter(), time.process_time()
        network, state = loop.train_steps(config, workdir, sampler, checkpoints, stop, 1 + steps)
        in_all = time.perf_counter() - began
        cores = (time.process_time() - busy) / in_all
        last = list(checkpoints.seconds)
        checkpoints.save("best", checkpoints.progress("last"), model=named_arrays(network, state)["model"])
        best = checkpoints.seconds[-1]
    with (workdir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[1:]  # the first one compiles
    clips = config.data.identities * config.data.tracklets
    if trace is not None:
        shutil.copytree(workdir / "profile", trace, dirs_exist_ok=True)
    # Meters are means over ten steps: those without the first step are left.
    meters = {name: median(float(row[name]) for row in rows[METERED_STEPS - 1:] or rows[-1:])
              for name in ("clips_per_second", "waiting_for_data", *_METERS)
              if rows[-1].get(name)}
    step, epochs = clips / meters["clips_per_second"], schedule.epochs
    lines = [Line("set-up, compilation and step 1", 1, in_all - steps * step - sum(last), 1),
             Line(f"training step of {clips} clips", epochs * sampler.steps_per_epoch - 1, step, steps),
             Line("checkpoint to resume from", -(-epochs // schedule.checkpoint_every), fmean(last), len(last)),
             Line("checkpoint of the best, at most", epochs // schedule.evaluate_every, best, 1)]
    return lines, meters | {"cores_had": cores}


def _tested(config: ConfigDict, workdir: Path, batches: int) -> list[Line]:
    """Features of a part of the gallery, by the clips of periodic evaluations and by those of the final one."""
    model, _ = restore_model(workdir, "last")
    splits, clips = test_records(config), batches * config.eval.batch
    settings = {"clip_length": config.data.clip_length, "image_size": tuple(config.data.image_size),
                "batch_size": config.eval.batch}

    def measured(mode: str, clips: int) -> tuple[float, int]:
        """Seconds, and how many batches they were for."""
        part = first(splits[1], clips, config.data.clip_length, mode)
        took = seconds(lambda: extract(model, part, clips=mode, workers=config.data.workers, **settings))
        return took, len(ClipBatches(part, mode, **settings))

    lines = [Line("evaluation step, compiled", 1, measured("test", 1)[0], 1)]
    for mode, passes, what in (
            (config.train.evaluate_clips, config.train.epochs // config.train.evaluate_every, "periodic evaluation"),
            (config.eval.clips, len(CHECKPOINT_KINDS), f"final evaluation, {' and '.join(CHECKPOINT_KINDS)}")):
        took, sample = measured(mode, clips)
        every = sum(len(ClipBatches(split, mode, **settings)) for split in splits)
        lines.append(Line(f"{what}: batch of {config.eval.batch} clips, {mode}", passes * every, took / sample,
                          sample))
    return lines


def _scored(config: ConfigDict, found: Metadata) -> list[Line]:
    """Scores of drawn features, as many as in the data set and as long as the backbone's."""
    settings, model = config.eval, config.model
    search = drawn_search(found, EXPANSION * model.width * 2 ** (len(model.depths) - 1))
    names = [protocol.name for protocol in protocols.resolve(settings.protocols)]
    return [Line(f"{what}: scores of {', '.join(asked)}", times, seconds(
        lambda asked=asked: search.score(asked, settings.corrections, settings.max_rank)), 1)
        for what, times, asked in (
            ("periodic evaluation", config.train.epochs // config.train.evaluate_every, names[:1]),
            ("final evaluation", len(CHECKPOINT_KINDS), names))]


def _notes(flags: argparse.Namespace, about: dict) -> list[str]:
    """What must be known to read the table."""
    sizes = about["sizes"]
    return [f"{about['tracklets']}: {sizes['training tracklets']:,} of {sizes['training identities']:,} identities for "
            f"training, {sizes['test tracklets']:,} with {sizes['test frames']:,} frames for testing.",
            f"Measured: {about['clips_per_second']:.3g} clips a second, {about['waiting_for_data']:.1%} of the time "
            f"waiting for data; the program had {about['cores_had']:.1f} of {about['cores']} cores.",
            *(text.format(about[name]) for name, text in _METERS.items() if name in about),
            f"Frames are JPEG files of {about['frame_bytes'] / 1000:.1f} kB (MARS: about 9), read from files just "
            "written; in the steps measured most tracklets are read for the first time, which verifies the whole "
            "record.",
            *mars_config.caveat(flags),
            "Not in it: the report's pictures, reading ImageNet's weights, and making the records."]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.1f} s"


if __name__ == "__main__":
    run_command(main)
