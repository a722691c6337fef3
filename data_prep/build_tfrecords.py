"""Packs a data set into TFRecords, as it is or after Re-Detect and Link (paper, section 3.1).

    python data_prep/build_tfrecords.py --dataset=mars --root=/data/MARS --out=/data/mars-raw --detector=none
    python data_prep/build_tfrecords.py --dataset=mars --root=/data/MARS --out=/data/mars-dl \\
        --detector=hog --linker=ide:runs/ide

The same command resumes a stopped run. The same input gives the same bytes, whatever the number of workers.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: the packages are beside this folder, and its files are not packages
    _here = str(Path(__file__).resolve().parent)
    sys.path[:] = [str(Path(_here).parent), *(path for path in sys.path if path != _here)]

import google_crc32c
import numpy as np

from cfaan_jax.data.description import PREVIEWS, SUMMARY, contact_sheet
from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.errors import InputError
from cfaan_jax.runtime import lock
from cfaan_jax.runtime.command import CommandParser, exit_status
from cfaan_jax.runtime.files import parse_json, write_atomic
from cfaan_jax.runtime.interrupt import StopSignal
from cfaan_jax.runtime.progress import Progress
from data_prep import writer
from data_prep.datasets import DATASETS, Dataset
from data_prep.flags import check_range, parse_size
from data_prep.redetect_link import alignment, detectors, linkers, packing
from data_prep.redetect_link.packing import Aligner, Packer, in_order
from data_prep.summary import show, summarise

# Aligned already, or left as it is by the paper's authors.
_NOT_DETECTED = ("mars_dl", "dukev")
_LAYOUT_OF_MARS = ("mars", "mars_dl", "synthetic")


@dataclass(frozen=True)
class _Option:
    """A flag of some data sets only; `name` is the parameter of their `open`."""

    flag: str
    datasets: tuple[str, ...]
    name: str
    kind: Any
    default: Any
    text: str


OPTIONS = (
    _Option("seed", ("synthetic", "video"), "seed", int, 0,
            "seed of the drawn data set, or of the tracks for training"),
    _Option("split", ("ilids", "prid"), "split", int, 0, "which of the ten splits of the people, 0 to 9"),
    _Option("identities", ("synthetic",), "identities", int, 64, "identities to draw, half of them for training"),
    _Option("video_detector", ("video",), "detector", str, "hog", "detector for full frames, named as in --detector"),
    _Option("video_confidence", ("video",), "confidence", float, None,
            "lowest score in full frames; unset: the detector's own"),
    _Option("video_size", ("video",), "input_size", parse_size, None,
            "HEIGHTxWIDTH of a frame in this detector; unset: 960 pixels on the longer side for hog, else 640"),
    _Option("training_share", ("video",), "training_share", float, 0.5,
            "share of the tracks for training; several videos (--root=a.mp4:b.mp4) are cameras and have none"),
    _Option("video_stride", ("video",), "stride", int, 1, "use only every so many frames"),
    _Option("minimum_length", ("video",), "minimum_length", int, 16, "drop tracks with fewer frames"),
    _Option("minimum_height", ("video",), "minimum_height", int, 32, "ignore persons with fewer rows of pixels"),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    def interruptible_build() -> None:
        args = parse(arguments)
        with StopSignal() as stop, stop.interruptible():
            build(args)

    return exit_status(interruptible_build, "complete shards in --out stay; the same command resumes")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the flags of the command line."""
    parser = CommandParser("build_tfrecords.py", __doc__)
    data = parser.add_argument_group("data set")
    data.add_argument("--dataset", required=True, choices=sorted(DATASETS), help="layout of --root")
    data.add_argument("--root", required=True, type=Path,
                      help="folder of the data set; synthetic is drawn there if it is missing")
    for option in OPTIONS:
        default = "" if option.default is None else f" (default {option.default})"
        data.add_argument(f"--{option.flag}", type=option.kind,
                          help=f"{', '.join(option.datasets)}: {option.text}{default}")
    records = parser.add_argument_group("records")
    records.add_argument("--out", required=True, type=Path, help="folder for the records")
    records.add_argument("--shard_size", type=int, default=128, help="tracklets in a shard (default 128)")
    records.add_argument("--jpeg_quality", type=int, default=95,
                         help="quality of encoded frames, 1 to 100; without a detector JPEG files stay unchanged (95)")
    records.add_argument("--workers", type=int, default=os.cpu_count(),
                         help="number of tracklets in work at a time (default: number of cores)")
    records.add_argument("--engine", choices=("threads", "ray"), default="threads",
                         help="threads: on this machine; ray: processes on all machines of the Ray cluster at "
                              "RAY_ADDRESS, or on this one; needs data_prep/requirements-ray.txt")
    records.add_argument("--gpus_per_worker", type=float, default=0.0,
                         help="with --engine=ray: share of a GPU per worker, 0 for none (default 0)")
    records.add_argument("--preview", type=int, default=0, metavar="N",
                         help="first draw contact sheets (before, after, mask) of N tracklets, evenly spread, into "
                              "<out>/preview")
    records.add_argument("--export_images", type=Path, metavar="FOLDER",
                         help="finally write images, lists and masks there, in the layout of the authors' MARS-DL, "
                              "which --dataset=mars_dl reads; for data sets in MARS's layout")
    persons = parser.add_argument_group("detector and linker")
    persons.add_argument("--detector", help=f"none (frames as they are), {detectors.NAMES} (AGPL-3.0); "
                                            f"default for {' and '.join(_NOT_DETECTED)}: none")
    persons.add_argument("--linker", help=f"chooses the detection to follow: {linkers.NAMES} (always the largest box); "
                                          "required unless --detector=none")
    alignment.add_flags(parser)
    args = parser.parse_args(arguments)
    if args.detector is None and args.dataset in _NOT_DETECTED:
        args.detector = "none"
    if args.detector is None:
        parser.error(f"--detector is missing: choose {detectors.NAMES}, or none for frames as they are")
    return args


def build(args: argparse.Namespace) -> None:
    """Builds the records that the flags ask for.

    Raises:
        InputError: bad flags or data; complete shards in `--out` stay.
    """
    options, thresholds = _dataset_options(args), alignment.settings_from(args)
    _check(args, thresholds)
    detects = args.detector != "none"
    about = {"detector": _identify(args.detector),
             "linker": _identify(args.linker) if detects else None,
             "image_size": thresholds.image_size if detects else None}
    settings = {
        "dataset": args.dataset,
        **{flag: _identify(value) if isinstance(value, str) else value for flag, value in options.items()},
        "detector": about["detector"], "linker": about["linker"], "shard_size": args.shard_size,
        "jpeg_quality": args.jpeg_quality, **(asdict(thresholds) if detects else {})}
    summary = _read_summary(args.out)
    if writer.is_finished(args.out, settings, args.root) and summary and _has_all_sheets(args, summary):
        print(f"{args.out}: is complete already; choose another --out for a data set that has changed")
    else:
        recipe = (args.detector, args.linker, thresholds, args.jpeg_quality)
        pack = packing.create(*recipe)
        if detects:
            print(f"detector {args.detector} on {pack.devices['detector']}, linker {args.linker} on "
                  f"{pack.devices['linker']}")
        with lock.exclusive(args.out / lock.BUILDING, "packs records"):  # before a video is tracked, which takes long
            dataset = DATASETS[args.dataset](args.root, **{option.name: options[option.flag] for option in OPTIONS
                                                           if option.flag in options})
            about["aligned"] = detects or dataset.aligned
            settings = writer.save_or_check_settings(args.out, dataset, settings)
            _draw_sheets(args, dataset, pack)
            shards = writer.plan(dataset, args.out, args.shard_size)
            speed = _write_missing(args, dataset, shards, pack, recipe)
            writer.finish(args.out, dataset, args.root, shards, settings, about)
            summary = _write_summary(args.out, speed, pack.clock.stages())
    show(summary)
    if args.export_images:
        from data_prep.datasets import mars_dl  # needs SciPy
        mars_dl.export(args.out, args.export_images)
        print(f"images in the layout of MARS-DL: {args.export_images}")


def _dataset_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the requested data set by flag, with defaults filled in."""
    options = {}
    for option in OPTIONS:
        value = getattr(args, option.flag)
        if args.dataset in option.datasets:
            options[option.flag] = option.default if value is None else value
        elif value is not None:
            raise InputError(f"--{option.flag}={value}: an option of {' and '.join(option.datasets)}, not of "
                             f"--dataset={args.dataset}; leave it out")
    return options


def _check(args: argparse.Namespace, thresholds: alignment.AlignmentSettings) -> None:
    """Raises InputError for flags out of range, without effect, or in conflict with others."""
    for flag, low, high in (("shard_size", 1, np.inf), ("workers", 1, np.inf), ("preview", 0, np.inf),
                            ("gpus_per_worker", 0, 1), ("jpeg_quality", 1, 100)):
        check_range(flag, getattr(args, flag), low, high)
    if args.export_images:
        _check_export(args, args.export_images)
    if args.gpus_per_worker and args.engine != "ray":
        raise InputError(f"--gpus_per_worker={args.gpus_per_worker}: is for --engine=ray only; leave it out")
    if args.detector == "none":
        default = alignment.AlignmentSettings()
        unused = [field.name for field in fields(default)
                  if getattr(thresholds, field.name) != getattr(default, field.name)]
        unused += [name for name in ("linker", "preview") if getattr(args, name)]
        if unused:
            raise InputError(f"--{unused[0]}={getattr(args, unused[0])}: has no effect with --detector=none, which "
                             "keeps frames as they are; leave it out or name a detector")
    elif args.dataset == "mars_dl":
        raise InputError(f"--detector={args.detector}: MARS-DL is aligned already, and detecting in its padded frames "
                         "would lose the masks; leave it out, or use MARS itself (--dataset=mars)")
    elif not args.linker:
        raise InputError("--linker is missing: name a trained linker, --linker=ide:<workdir>, or --linker=largest, "
                         "or keep the frames as they are with --detector=none")


def _check_export(args: argparse.Namespace, folder: Path) -> None:
    """Raises InputError for a data set without MARS's layout, and for a folder in use."""
    if args.dataset not in _LAYOUT_OF_MARS:
        raise InputError(f"--export_images={folder}: MARS's layout cannot hold --dataset={args.dataset}; it is for "
                         f"{', '.join(_LAYOUT_OF_MARS)}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--export_images={folder}: is a file; name a folder")
    for flag, other in (("root", args.root), ("out", args.out)):
        export, used = folder.resolve(), other.resolve()
        if export == used or export in used.parents or used in export.parents:
            raise InputError(f"--export_images={folder}: is, holds or lies in --{flag}={other}; name another folder")


def _identify(spec: str) -> str:
    """A detector or linker by the content of its files, so that they may be moved."""
    kind, _, names = spec.partition(":")
    checksums = []
    for path in map(Path, names.split(",") if names else ()):
        # Only the checkpoints of a linker's workdir matter.
        files = sorted((path / "checkpoints").rglob("*")) if path.is_dir() else [path]
        files += [path.with_name(path.name + ".data")]  # external weights of ONNX
        checksum = google_crc32c.Checksum()
        for file in files:
            if file.is_file():  # a missing file gets its error where it is opened
                checksum.update(file.read_bytes())
        checksums.append(f"{path.name} {checksum.hexdigest().decode()}")
    return f"{kind}: {', '.join(checksums)}" if checksums else kind


def _has_all_sheets(args: argparse.Namespace, summary: dict) -> bool:
    tracklets = sum(count["tracklets"] for count in summary["counts"].values())
    return len(list((args.out / PREVIEWS).glob("*.png"))) >= min(args.preview, tracklets)


def _draw_sheets(args: argparse.Namespace, dataset: Dataset, pack: Packer | Aligner) -> None:
    """Draws the missing contact sheets before the long work, so that settings can be judged early."""
    folder, count = args.out / PREVIEWS, min(args.preview, len(dataset.tracklets))
    spread = np.linspace(0, len(dataset.tracklets) - 1, count).round().astype(int)
    sheets = {folder / contact_sheet(tracklet.split, tracklet.name): tracklet
              for tracklet in (dataset.tracklets[index] for index in spread)}
    missing = [path for path in sheets if not path.exists()]
    if missing:
        with Progress("contact sheets", len(missing)) as progress:
            for _ in in_order(lambda path: pack.draw(sheets[path], path), missing, args.workers):
                progress.advance()
        print(f"contact sheets: {folder}")
        pack.clock.take()  # their time does not belong to the run


def _write_missing(args: argparse.Namespace, dataset: Dataset, shards: list[writer.Shard], pack: Packer | Aligner,
                   recipe: tuple) -> float | None:
    """Writes the missing shards; returns frames per second, None if no shard was missing."""
    missing = [shard for shard in shards if not shard.path.exists()]
    if len(missing) < len(shards):
        print(f"{args.out}: {len(shards) - len(missing)} of {len(shards)} shards exist already")
    if not missing:
        return None
    remaining = sum(len(shard.tracklets) for shard in missing)
    label = f"{'packing' if isinstance(pack, Packer) else 'Re-Detect and Link:'} {dataset.name}"
    start, frames = time.monotonic(), 0

    def convert(tracklets) -> Iterator[TrackletRecord]:
        if args.engine == "threads":
            return in_order(pack, tracklets, args.workers)
        from data_prep.redetect_link.ray_engine import in_order_by_ray
        return in_order_by_ray(recipe, tracklets, args.workers, args.gpus_per_worker, pack.clock)

    def speed() -> float:
        return frames / max(time.monotonic() - start, 1e-9)

    with Progress(label, len(dataset.tracklets), start=len(dataset.tracklets) - remaining) as progress:

        def advance(record: TrackletRecord) -> None:
            nonlocal frames
            frames += len(record.frames)
            progress.advance(frames_per_second=speed())

        writer.write(missing, convert, advance)
    return round(speed(), 1)


def _read_summary(out: Path) -> dict:
    """The summary of an earlier run; empty if it is missing or damaged, since it can be written again."""
    try:
        content = parse_json((out / SUMMARY).read_text())
        return content if isinstance(content, dict) and "counts" in content else {}
    except (OSError, ValueError):
        return {}


def _write_summary(out: Path, speed: float | None, stages: dict) -> dict:
    """Counts the records and writes the summary; without a `speed` that of the earlier run stays."""
    measured = {"frames_per_second": speed, "stages": stages}
    summary = summarise(out) | measured
    if speed is None:
        summary |= {name: value for name, value in _read_summary(out).items() if name in measured}
    write_atomic(out / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


if __name__ == "__main__":
    sys.exit(main())
