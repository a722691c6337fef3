"""Frames per second of the training input, against bare decoding of the same files and a pipeline frame by frame.

    python -m benchmarks.input --out=input.json [--records=FOLDER] [--batches=100] [--workers=2]

    loader          the input of training: frames picked through the index and decoded by threads ahead of the step
    decoding        the same JPEG files from memory through the loader's decoder, in as many threads, and nothing else
    frame by frame  what the released loader does to each frame, in as many threads: Pillow decodes, resizes (bilinear)
                    and flips, NumPy makes floats, normalises and erases

All take turns, so that other work on the machine slows all of them. Rates are the best of all rounds; ratios are the
median (lowest to highest) of the ratios within a round. Without --records, tracklets of 60 frames of 256 x 128 and 9 kB
are drawn.
"""

import argparse
import io
import json
import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import command, whole
from benchmarks.drawn_records import draw
from cfaan_jax.data import images
from cfaan_jax.data.clips import train_clips
from cfaan_jax.data.loader import TrainBatches, read_ahead
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

IDENTITIES, TRACKLETS, CLIP_LENGTH = 8, 4, 6
_MEAN, _DEVIATION = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
_CHUNK = 64  # files in one task of a thread


def main(arguments: list[str] | None = None) -> None:
    parser = command("input", __doc__)
    parser.add_argument("--records", type=Path, help="folder that build_tfrecords.py wrote; unset: drawn")
    parser.add_argument("--batches", type=whole(), default=100, help="of 8 x 4 clips of 6 frames (default 100)")
    parser.add_argument("--workers", type=whole(), default=2, help="threads (default 2)")
    parser.add_argument("--rounds", type=whole(), default=9, help="in which all take a turn (default 9)")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as drawn:
        folder = flags.records or draw(Path(drawn), "train", 4 * IDENTITIES * TRACKLETS, 4 * IDENTITIES)
        _compare(RecordSet.open(folder, "train"), flags)


def _compare(records: RecordSet, flags: argparse.Namespace) -> None:
    sampler, size = IdentitySampler(records.pids, IDENTITIES, TRACKLETS, 0), records.image_size(0)
    batches = TrainBatches(records, sampler, CLIP_LENGTH, size, flags.batches)
    files = _files(records, sampler, flags.batches)

    def loader() -> int:
        return sum(math.prod(batch["frames"].shape[:2]) for batch in read_ahead(batches, 0, flags.workers))

    works = {"loader": loader, "decoding": lambda: _in_threads(images.decode, files, flags.workers),
             "frame by frame": lambda: _in_threads(lambda file: _released(file, size), files, flags.workers)}
    loader()  # every record is verified once
    rounds = [{name: _rate(work) for name, work in works.items()} for _ in range(flags.rounds)]
    rows = [{"what": name, "frames_per_second": max(rates[name] for rates in rounds),
             "of_decoding": [rates[name] / rates["decoding"] for rates in rounds],
             "of_frame_by_frame": [rates[name] / rates["frame by frame"] for rates in rounds]} for name in works]
    flags.out.write_text(json.dumps(rows, indent=2) + "\n")
    mean = np.mean([len(file) for file in files])
    show(f"{len(files):,} frames of {size[0]} x {size[1]}, {mean / 1000:.1f} kB each, {flags.workers} workers",
         ["what", "frames/s", "of decoding", "of frame by frame"],
         [[row["what"], f"{row['frames_per_second']:,.0f}", _spread(row["of_decoding"]),
           _spread(row["of_frame_by_frame"])] for row in rows])


def _spread(ratios: list[float]) -> str:
    return f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _files(records: RecordSet, sampler: IdentitySampler, batches: int) -> list[bytes]:
    """The JPEG files of as many batches, in memory."""
    rng, files = np.random.default_rng(0), []
    for step in range(batches):
        positions = sampler.batch(step)
        for position, clip in zip(positions, train_clips(records.lengths[positions], CLIP_LENGTH, rng), strict=True):
            files += [records.frame(int(position), int(k)) for k in clip]
    return files


def _rate(work: Callable[[], int]) -> float:
    """Frames a second."""
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def _in_threads(work: Callable[[bytes], object], files: list[bytes], workers: int) -> int:
    """Runs `work` on all files, a chunk at a time: the pool ignores `chunksize`. Results are dropped."""
    def run(chunk: list[bytes]) -> int:
        return sum(work(file) is not None for file in chunk)

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(run, (files[i:i + _CHUNK] for i in range(0, len(files), _CHUNK))))


def _released(file: bytes, size: tuple[int, int]) -> np.ndarray:
    """One frame as the released loader makes it."""
    rng = np.random.default_rng(len(file))
    image = Image.open(io.BytesIO(file)).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = (np.asarray(image, np.float32).transpose(2, 0, 1) / 255 - _MEAN[:, None, None]) / _DEVIATION[:, None, None]
    if rng.random() < 0.5:
        height, width = int(size[0] * rng.uniform(0.15, 0.6)), int(size[1] * rng.uniform(0.15, 0.6))
        top, left = rng.integers(0, size[0] - height), rng.integers(0, size[1] - width)
        pixels[:, top:top + height, left:left + width] = _MEAN[:, None, None]
    return pixels


if __name__ == "__main__":
    run_command(main)
