"""Packs a data set into TFRecords, as it is or after Re-Detect and Link (paper, section 3.1).

    python data_prep/build_tfrecords.py --dataset=mars --root=/data/MARS --out=/data/mars-raw --detector=none
    python data_prep/build_tfrecords.py --dataset=mars --root=/data/MARS --out=/data/mars-dl \\
        --detector=hog --linker=ide:runs/ide

A run that was stopped goes on when the same command is started again. The same input gives the same bytes, whatever
the number of workers.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: the packages lie beside this folder, and nothing in it is one by itself
    _here = str(Path(__file__).resolve().parent)
    sys.path[:] = [str(Path(_here).parent), *(path for path in sys.path if path != _here)]

import google_crc32c
import numpy as np

from cfaan_jax.data.description import PREVIEWS, SUMMARY, contact_sheet
from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.errors import InputError
from cfaan_jax.runtime import lock
from cfaan_jax.runtime.command import exit_status
from cfaan_jax.runtime.files import parse_json, write_atomic
from cfaan_jax.runtime.interrupt import StopSignal
from cfaan_jax.runtime.progress import Progress
from data_prep import writer
from data_prep.datasets import DATASETS, Dataset
from data_prep.export_images import export
from data_prep.redetect_link import alignment, detectors, linkers, packing
from data_prep.redetect_link.packing import Aligner, Packer, in_order
from data_prep.redetect_link.tracklet import Tracklet
from data_prep.summary import show, summarise

Convert = Callable[[Iterable[Tracklet]], Iterator[TrackletRecord]]
# Aligned already, or left as it is by the paper's authors.
_NOT_DETECTED = ("mars_dl", "dukev")
_LAYOUT_OF_MARS = ("mars", "mars_dl", "synthetic")


@dataclass(frozen=True)
class _Option:
    """A flag that only some data sets have: `name` is what their `open` calls it."""

    flag: str
    datasets: tuple[str, ...]
    name: str
    kind: Any
    default: Any
    text: str


OPTIONS = (
    _Option("seed", ("synthetic", "video"), "seed", int, 0, "of what is drawn, or of which tracks are for training"),
    _Option("split", ("ilids", "prid"), "split", int, 0, "which of the ten splits of the people, 0 to 9"),
    _Option("identities", ("synthetic",), "identities", int, 64, "identities to draw, half of them for training"),
    _Option("video_detector", ("video",), "detector", str, "hog", "finds persons in full frames, named as --detector"),
    _Option("video_confidence", ("video",), "confidence", float, None, "lowest score there; unset: the detector's own"),
    _Option("video_size", ("video",), "input_size", alignment.parse_size, None,
            "HEIGHTxWIDTH at which it sees a frame; unset: 960 pixels on the longer side for hog, else 640"),
    _Option("training_share", ("video",), "training_share", float, 0.5,
            "share of the tracks for training; several videos (--root=a.mp4:b.mp4) are cameras and have none"),
    _Option("video_stride", ("video",), "stride", int, 1, "use only every so many frames"),
    _Option("minimum_length", ("video",), "minimum_length", int, 16, "drop tracks with fewer frames"),
    _Option("minimum_height", ("video",), "minimum_height", int, 32, "ignore persons with fewer rows of pixels"),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    data = parser.add_argument_group("data set")
    data.add_argument("--dataset", required=True, choices=sorted(DATASETS), help="layout of --root")
    data.add_argument("--root", required=True, type=Path,
                      help="where the data set lies; for synthetic: where it is drawn, if it is not there yet")
    for option in OPTIONS:
        default = "" if option.default is None else f" (default {option.default})"
        data.add_argument(f"--{option.flag}", type=option.kind,
                          help=f"{', '.join(option.datasets)}: {option.text}{default}")
    records = parser.add_argument_group("records")
    records.add_argument("--out", required=True, type=Path, help="folder for the records")
    records.add_argument("--shard_size", type=int, default=128, help="tracklets in a shard (default 128)")
    records.add_argument("--jpeg_quality", type=int, default=95,
                         help="1 to 100, of frames that are cut anew; without a detector JPEG files stay as they are "
                              "(default 95)")
    records.add_argument("--workers", type=int, default=os.cpu_count(),
                         help="tracklets worked on at a time (default: number of cores)")
    records.add_argument("--engine", choices=("threads", "ray"), default="threads",
                         help="threads: on this machine; ray: in processes, on every machine of a Ray cluster "
                              "(RAY_ADDRESS names it; without one, here); needs data_prep/requirements-ray.txt")
    records.add_argument("--gpus_per_worker", type=float, default=0.0,
                         help="with --engine=ray: share of a GPU that each worker holds, 0 for none (default 0)")
    records.add_argument("--preview", type=int, default=0, metavar="N",
                         help="first draw contact sheets (before, after, mask) of N tracklets, evenly spread, into "
                              "<out>/preview")
    records.add_argument("--export_images", type=Path, metavar="FOLDER",
                         help="afterwards write images, lists and masks there, in the layout of the authors' MARS-DL, "
                              "which --dataset=mars_dl reads; for data sets in MARS's layout")
    persons = parser.add_argument_group("detector and linker")
    persons.add_argument("--detector", help=f"none (frames as they are), {detectors.NAMES} (AGPL-3.0); "
                                            f"default for {' and '.join(_NOT_DETECTED)}: none")
    persons.add_argument("--linker", help=f"which detection to follow: {linkers.NAMES} (always the largest box); "
                                          "needed unless --detector=none")
    alignment.add_flags(parser)
    args = parser.parse_args(arguments)
    if args.detector is None and args.dataset in _NOT_DETECTED:
        args.detector = "none"
    if args.detector is None:
        parser.error(f"--detector is missing: choose {detectors.NAMES}, or none for frames as they are")
    return args


def build(args: argparse.Namespace) -> None:
    """Does what the flags say.

    Raises:
        InputError: bad flags or data; what is complete in `--out` stays.
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
    before = _read_summary(args.out / SUMMARY)
    if writer.is_finished(args.out, settings, args.root) and before and _all_sheets(args, before):
        print(f"{args.out}: everything is there already; to pack a data set that has changed, give another --out")
        show(before)
        _export(args)
        return
    recipe = (args.detector, args.linker, thresholds, args.jpeg_quality)
    pack = packing.create(*recipe)
    if detects:
        print(f"detector {args.detector} on {pack.devices['detector']}, linker {args.linker} on "
              f"{pack.devices['linker']}")
    # Locked before a video is looked through, which takes long.
    with lock.exclusive(args.out / lock.BUILDING, "packs records"):
        dataset = DATASETS[args.dataset](args.root, **{option.name: options[option.flag] for option in OPTIONS
                                                       if option.flag in options})
        about["aligned"] = detects or dataset.aligned
        _make(args, dataset, pack, recipe, settings, about)
    _export(args)


def _make(args: argparse.Namespace, dataset: Dataset, pack: Packer | Aligner, recipe: tuple, settings: dict,
          about: dict) -> None:
    """Makes what is missing in a folder in which nobody else works; `recipe` is what `pack` was created from."""
    summary = args.out / SUMMARY
    before = _read_summary(summary)
    settings = writer.claim(args.out, dataset, settings)
    _preview(args, dataset, pack)
    pack.clock.take()  # what the contact sheets took is not the run's
    shards = writer.plan(dataset, args.out, args.shard_size)
    speed = _write(args, dataset, shards, pack, _convert(args, recipe, pack))
    writer.finish(args.out, dataset, args.root, shards, settings, about)
    content = summarise(args.out) | {"frames_per_second": speed, "stages": pack.clock.stages()}
    if speed is None:  # nothing was missing but the summary or contact sheets: what was measured stays
        content |= {name: before[name] for name in ("frames_per_second", "stages") if name in before}
    write_atomic(summary, json.dumps(content, indent=2) + "\n")
    show(content)


def _check(args: argparse.Namespace, thresholds: alignment.AlignmentSettings) -> None:
    for name, low, high in (("shard_size", 1, np.inf), ("workers", 1, np.inf), ("preview", 0, np.inf),
                            ("gpus_per_worker", 0, 1), ("jpeg_quality", 1, 100)):
        if not low <= getattr(args, name) <= high:
            raise InputError(f"--{name}={getattr(args, name)}: must lie between {low} and {high}")
    _check_places(args)
    if args.gpus_per_worker and args.engine != "ray":
        raise InputError(f"--gpus_per_worker={args.gpus_per_worker}: has a meaning with --engine=ray only; leave it "
                         "out")
    if args.detector != "none":
        if args.dataset == "mars_dl":
            raise InputError(f"--detector={args.detector}: MARS-DL is aligned already, and detecting in its padded "
                             "frames would lose the masks; leave it out, or give MARS itself (--dataset=mars)")
        if not args.linker:
            raise InputError("--linker is missing: name a trained linker, --linker=ide:<workdir>, or --linker=largest, "
                             "or keep the frames as they are with --detector=none")
        return
    default = alignment.AlignmentSettings()
    names = [field.name for field in fields(default)]
    useless = [name for name in names if getattr(thresholds, name) != getattr(default, name)]
    useless += [name for name in ("linker", "preview") if getattr(args, name)]
    if useless:
        raise InputError(f"--{useless[0]}={getattr(args, useless[0])}: has no meaning with --detector=none, which "
                         "keeps frames as they are; leave it out or name a detector")


def _check_places(args: argparse.Namespace) -> None:
    """Whether images can be exported at all, and to where nothing else lies."""
    folder = args.export_images
    if folder is None:
        return
    if args.dataset not in _LAYOUT_OF_MARS:
        raise InputError(f"--export_images={folder}: that layout is MARS's, and --dataset={args.dataset} has no place "
                         f"in it; it is for {', '.join(_LAYOUT_OF_MARS)}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--export_images={folder}: is a file; give a folder")
    for name, other in (("root", args.root), ("out", args.out)):
        mine, theirs = folder.resolve(), other.resolve()
        if mine == theirs or mine in theirs.parents or theirs in mine.parents:
            raise InputError(f"--export_images={folder}: is, holds or lies in --{name}={other}; give another folder")


def _dataset_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the data set asked for, by flag, defaults filled in."""
    options = {}
    for option in OPTIONS:
        given = getattr(args, option.flag)
        if args.dataset in option.datasets:
            options[option.flag] = option.default if given is None else given
        elif given is not None:
            raise InputError(f"--{option.flag}={given}: an option of {' and '.join(option.datasets)}, not of "
                             f"--dataset={args.dataset}; leave it out")
    return options


def _identify(spec: str) -> str:
    """Says which detector or linker a flag names: by the content of its files, so that they may be moved."""
    kind, _, names = spec.partition(":")
    known = []
    for path in map(Path, names.split(",") if names else ()):
        # A linker is named by its training folder, in which only the checkpoints matter.
        files = sorted((path / "checkpoints").rglob("*")) if path.is_dir() else [path]
        checksum = google_crc32c.Checksum()
        files += [path.with_name(path.name + ".data")]  # where ONNX keeps weights apart
        for file in files:
            if file.is_file():  # a missing one gets its error where it is opened
                checksum.update(file.read_bytes())
        known.append(f"{path.name} {checksum.hexdigest().decode()}")
    return f"{kind}: {', '.join(known)}" if known else kind


def _export(args: argparse.Namespace) -> None:
    if args.export_images:
        export(args.out, args.export_images)
        print(f"images in the layout of MARS-DL: {args.export_images}")


def _read_summary(path: Path) -> dict:
    """The summary of an earlier run; empty if there is none that can be read, since it can be made again."""
    try:
        content = parse_json(path.read_text())
        return content if isinstance(content, dict) and "counts" in content else {}
    except (OSError, ValueError):
        return {}


def _all_sheets(args: argparse.Namespace, summary: dict) -> bool:
    tracklets = sum(count["tracklets"] for count in summary["counts"].values())
    return len(list((args.out / PREVIEWS).glob("*.png"))) >= min(args.preview, tracklets)


def _preview(args: argparse.Namespace, dataset: Dataset, aligner: Aligner) -> None:
    """Draws the contact sheets that are missing, before the long work, so that settings can be judged early."""
    folder = args.out / PREVIEWS
    places = np.linspace(0, len(dataset.tracklets) - 1, min(args.preview, len(dataset.tracklets))).round().astype(int)
    sheets = {folder / contact_sheet(tracklet.split, tracklet.name): tracklet
              for tracklet in (dataset.tracklets[place] for place in places)}
    missing = [path for path in sheets if not path.exists()]
    if not missing:
        return
    folder.mkdir(exist_ok=True)
    with Progress("contact sheets", len(missing)) as progress:
        for _ in in_order(lambda path: aligner.draw(sheets[path], path), missing, args.workers):
            progress.advance()
    print(f"contact sheets: {folder}")


def _convert(args: argparse.Namespace, recipe: tuple, pack: Packer | Aligner) -> Convert:
    """What makes the records of tracklets, in order; `recipe` is what `pack` was created from."""
    if args.engine == "threads":
        return lambda tracklets: in_order(pack, tracklets, args.workers)
    from data_prep.ray_engine import in_order_by_ray
    return lambda tracklets: in_order_by_ray(recipe, tracklets, args.workers, args.gpus_per_worker, pack.clock)


def _write(args: argparse.Namespace, dataset: Dataset, shards: list[writer.Shard], pack: Packer | Aligner,
           convert: Convert) -> float | None:
    """Makes the shards that are missing; returns frames per second, None when nothing was missing."""
    missing = [shard for shard in shards if not shard.path.exists()]
    if len(missing) < len(shards):
        print(f"{args.out}: {len(shards) - len(missing)} of {len(shards)} shards are there already")
    if not missing:
        return None
    waiting = sum(len(shard.tracklets) for shard in missing)
    label = f"{'packing' if isinstance(pack, Packer) else 'Re-Detect and Link:'} {dataset.name}"
    began, frames = time.monotonic(), 0

    def speed() -> float:
        return frames / max(time.monotonic() - began, 1e-9)

    with Progress(label, len(dataset.tracklets), start=len(dataset.tracklets) - waiting) as progress:

        def advance(record: TrackletRecord) -> None:
            nonlocal frames
            frames += len(record.frames)
            progress.advance(frames_per_second=speed())

        writer.write(missing, convert, advance)
    return round(speed(), 1)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    args = parse(arguments)

    def interruptible_build() -> None:
        with StopSignal() as stop, stop.interruptible():
            build(args)

    return exit_status(interruptible_build, f"complete shards in {args.out} stay; the same command resumes")


if __name__ == "__main__":
    sys.exit(main())
