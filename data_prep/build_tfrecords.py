"""Packs a data set into TFRecords, as it is or after Re-Detect and Link (paper, section 3.1).

    python data_prep/build_tfrecords.py --dataset=mars --root=/data/MARS --out=/data/mars-raw --detector=none
    python data_prep/build_tfrecords.py --dataset=mars --root=/data/MARS --out=/data/mars-dl \\
        --detector=hog --linker=ide:runs/ide

A run that was stopped goes on when it is started again. The same input gives the same bytes, whatever the number of
workers.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.errors import InputError
from cfaan_jax.progress import Progress
from data_prep import alignment, detectors, linking, preview, writer
from data_prep.datasets import DATASETS, Tracklet

_INTERRUPTED = 130  # the exit status of a command that Ctrl-C ended

# Flags that only some data sets have: flag -> (data set, name of its option, type, help).
_OPTIONS = {
    "identities": ("synthetic", "identities", int, "identities to draw, half of them for training (default 64)"),
    "seed": ("synthetic video", "seed", int, "of what is drawn, or of which tracks are for training (default 0)"),
    "video_detector": ("video", "detector", str, "finds people in full frames, named as for --detector (default hog)"),
    "video_confidence": ("video", "confidence", float, "lowest score there (default: the detector's own)"),
    "video_size": ("video", "input_size", alignment.parse_size, "HEIGHTxWIDTH at which it sees a frame"),
    "video_stride": ("video", "stride", int, "use only every so many frames (default 1)"),
    "minimum_length": ("video", "minimum_length", int, "drop tracks with fewer frames (default 16)"),
    "minimum_height": ("video", "minimum_height", int, "ignore people with fewer rows (default 32)"),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=sorted(DATASETS), help="layout of --root")
    parser.add_argument("--root", required=True, type=Path,
                        help="where the data set lies; for synthetic: where it is drawn, if it is not there yet")
    parser.add_argument("--out", required=True, type=Path, help="folder for the records")
    parser.add_argument("--detector", default="hog",
                        help="none (frames as they are), hog (built in), or darknet:<cfg>,<weights> (default hog)")
    parser.add_argument("--linker", help="which detection to follow: ide:<workdir of a trained configs/ide.py>, or largest "
                                         "(always the largest box); needed unless --detector=none")
    parser.add_argument("--shard_size", type=int, default=64, help="tracklets in a shard (default 64)")
    parser.add_argument("--jpeg_quality", type=int, default=95, help="of frames that are cut anew (default 95)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(),
                        help="tracklets worked on at a time (default: number of cores)")
    parser.add_argument("--preview", type=int, default=0, metavar="N",
                        help="draw contact sheets of N tracklets (before, after, mask) into <out>/preview")
    alignment.add_flags(parser)
    options = parser.add_argument_group("options of single data sets")
    for flag, (datasets, _, kind, text) in _OPTIONS.items():
        options.add_argument(f"--{flag}", type=kind, help=f"{', '.join(datasets.split())}: {text}")
    return parser.parse_args(arguments)


def build(args: argparse.Namespace) -> None:
    """Does what the flags say.

    Raises:
        InputError: bad flags or data; what is complete in `--out` stays.
    """
    _check(args)
    options = _dataset_options(args)
    settings = alignment.settings_from(args)
    aligned = args.detector != "none"
    dataset = DATASETS[args.dataset](args.root, **options)
    made_by = {"detector": args.detector, "linker": args.linker if aligned else None}
    choices = {"jpeg_quality": args.jpeg_quality, **asdict(settings)} if aligned else {}
    writer.claim(args.out, dataset, {"dataset": args.dataset, **{name: str(value) for name, value in options.items()},
                                     **made_by, "shard_size": args.shard_size, **choices})
    shards = writer.plan(dataset, args.out, args.shard_size)
    missing = [shard for shard in shards if not shard.path.exists()]
    if len(missing) < len(shards):
        print(f"{args.out}: {len(shards) - len(missing)} of {len(shards)} shards are there already")
    if missing:
        convert = Aligner(args, settings) if aligned else Packer(args)
        _write(missing, convert, f"{'Re-Detect and Link' if aligned else 'pack'} {dataset.name}")
    writer.finish(args.out, dataset, shards, missing, {"aligned": aligned, **made_by})
    _summarise(args.out, aligned)


def _check(args: argparse.Namespace) -> None:
    if args.detector != "none" and not args.linker:
        raise InputError("--linker is missing: name the trained linker, --linker=ide:<workdir>, or --linker=largest, "
                         "or keep the frames as they are with --detector=none")
    for name, low, high in (("shard_size", 1, None), ("workers", 1, None), ("preview", 0, None), ("jpeg_quality", 1, 100)):
        value = getattr(args, name)
        if value < low or (high is not None and value > high):
            raise InputError(f"--{name}={value}: must be at least {low}" + (f" and at most {high}" if high else ""))


def _dataset_options(args: argparse.Namespace) -> dict:
    options = {}
    for flag, (datasets, name, _, _) in _OPTIONS.items():
        value = getattr(args, flag)
        if value is None:
            continue
        if args.dataset not in datasets.split():
            raise InputError(f"--{flag}: an option of {' and '.join(datasets.split())}, not of --dataset={args.dataset}")
        options[name] = value
    return options


class Packer:
    """Keeps JPEG files byte for byte; other image files become JPEGs. Every frame is decoded once to be sure of it."""

    def __init__(self, args: argparse.Namespace):
        self._workers, self._quality = args.workers, args.jpeg_quality

    def __call__(self, tracklets: Iterable[Tracklet]) -> Iterator[TrackletRecord]:
        return _in_order(self._record, tracklets, self._workers)

    def _record(self, tracklet: Tracklet) -> TrackletRecord:
        frames, sizes = [], []
        for index in range(len(tracklet)):
            data = tracklet.read(index)
            image = decode_frame(tracklet, index, data)
            frames.append(data if data.startswith(b"\xff\xd8") else encode_frame(image, self._quality))
            sizes.append((0, image.shape[0], 0, image.shape[1]))
        return _record(tracklet, frames, sizes, sizes, ["none"] * len(frames))


class Aligner:
    """Re-detects and links tracklets, and draws some of them for the eye."""

    def __init__(self, args: argparse.Namespace, settings: alignment.AlignmentSettings):
        self._settings, self._workers, self._quality = settings, args.workers, args.jpeg_quality
        self._detector = detectors.create(args.detector, confidence=settings.detector_confidence,
                                          nms=settings.detector_nms, input_size=settings.detector_size)
        self._linker = linking.create(args.linker)
        self._preview_folder, self._previews = args.out / "preview", args.preview
        print(f"detector {args.detector}, linker {args.linker}, {args.workers} tracklets at a time, on the CPU")

    def __call__(self, tracklets: Iterable[Tracklet]) -> Iterator[TrackletRecord]:
        for tracklet, images, frames in _in_order(self._align, tracklets, self._workers):
            self._draw(tracklet, images, frames)
            yield _record(tracklet, [encode_frame(frame.image, self._quality) for frame in frames],
                          [frame.rectangle for frame in frames], [frame.box for frame in frames],
                          [frame.action for frame in frames])

    def _align(self, tracklet: Tracklet):
        images = [decode_frame(tracklet, index, tracklet.read(index)) for index in range(len(tracklet))]
        return tracklet, images, alignment.align_tracklet(images, self._detector, self._linker, self._settings)

    def _draw(self, tracklet: Tracklet, images: list[np.ndarray], frames: list[alignment.AlignedFrame]) -> None:
        """Draws the first tracklets that say something: where persons had to be told apart or none was found."""
        telling = any(len(frame.candidates.scores) != 1 for frame in frames)
        if self._previews <= 0 or not telling:
            return
        self._previews -= 1
        self._preview_folder.mkdir(exist_ok=True)
        sheet = preview.contact_sheet(tracklet, images, frames)
        cv2.imwrite(str(self._preview_folder / f"{tracklet.name}.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def decode_frame(tracklet: Tracklet, index: int, data: bytes) -> np.ndarray:
    """Decodes one frame to uint8 `[h, w, 3]`, RGB; InputError naming tracklet and file when it is no image."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data else None
    if image is None:
        raise InputError(f"{tracklet.sources[index]}: frame {index} of tracklet {tracklet.name} is not a readable image "
                         f"({len(data)} bytes); restore the file from the data set and run again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def encode_frame(image: np.ndarray, quality: int) -> bytes:
    """Encodes uint8 `[h, w, 3]`, RGB, as JPEG."""
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _record(tracklet: Tracklet, frames: list[bytes], rectangles: list, boxes: list, actions: list[str]) -> TrackletRecord:
    return TrackletRecord(tracklet.name, tracklet.split, tracklet.track_id, tracklet.pid, tracklet.camid, tuple(frames),
                          np.array(rectangles, np.int32), np.array(boxes, np.int32), tuple(actions), tracklet.sources)


def _in_order(work: Callable, items: Iterable, workers: int) -> Iterator:
    """Yields work(item) for every item, in order; a few items are worked on ahead in threads."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _write(missing: list[writer.Shard], convert: writer.Convert, label: str) -> None:
    tracklets = sum(len(shard.tracklets) for shard in missing)
    began, frames = time.monotonic(), 0
    with Progress(label, tracklets) as progress:

        def advance(tracklet: Tracklet) -> None:
            nonlocal frames
            frames += len(tracklet)
            progress.advance(frames=frames, frames_per_second=frames / (time.monotonic() - began))

        writer.write(missing, convert, advance)


def _summarise(out: Path, aligned: bool) -> None:
    """Prints what lies in a folder of records, read from the records themselves, and saves it as summary.json."""
    manifest = json.loads((out / "manifest.json").read_text())
    summary = {"counts": manifest["counts"], "aligned": aligned}
    if aligned:
        actions, padded = Counter(), []
        for split in manifest["counts"]:
            records = RecordSet.open(out, split)
            for i in range(len(records)):
                actions.update(part for action in records.record(i).actions for part in action.split("|"))
                y0, y1, x0, x1 = records.rectangles(i).T
                padded.append(1 - (y1 - y0) * (x1 - x0) / records.image_sizes(i).prod(1))
        summary |= {"frames_by_action": dict(sorted(actions.items())),
                    "padded_share": round(float(np.concatenate(padded).mean()), 4)}
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    for split, count in manifest["counts"].items():
        print(f"{out}: {split}: {count['tracklets']} tracklets, {count['frames']} frames")
    if aligned:
        print("  frames: " + ", ".join(f"{action} {count}" for action, count in summary["frames_by_action"].items())
              + f"; {summary['padded_share']:.1%} of the pixels are padding")


def main() -> None:
    args = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        build(args)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error}; what is complete in {args.out} stays, run again when the cause is gone")
    except KeyboardInterrupt:
        print(f"\nstopped; {args.out} keeps its complete shards, the same command goes on", file=sys.stderr)
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
