"""Frames per second of the training input, against bare decoding of the same files and a pipeline frame by frame.

    python -m benchmarks.input --out=input.json [--records=FOLDER] [--batches=100] [--workers=2]

    loader          what training uses: frames picked through the index, decoded ahead of the step in threads
    decoding        the loader's decoder (simplejpeg, or OpenCV where that is missing), over the same JPEG files from
                    memory, in as many threads, and nothing else
    OpenCV's        likewise with cv2.imdecode, which gives the same pixels
    frame by frame  what the released loader does to each frame: Pillow decodes, resizes (bilinear) and flips, NumPy
                    makes floats, normalises and erases; in as many threads

Ratios are those of frames in a second, and of frames in a second of processor time, which other programs on the machine
disturb less. Without --records, tracklets of 60 frames of 256 x 128 and 9 kB are drawn.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks import command, whole
from benchmarks.drawn_records import draw
from cfaan_jax.data import images
from cfaan_jax.data.clips import train_clips
from cfaan_jax.data.loader import TrainBatches, read_ahead
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.errors import run_command
from cfaan_jax.report.tables import show

IDENTITIES, TRACKLETS, CLIP_LENGTH = 8, 4, 6
_MEAN, _DEVIATION = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
_PART = 64  # files that a thread is given at once


def main(arguments: list[str] | None = None) -> None:
    parser = command("input", __doc__)
    parser.add_argument("--records", type=Path, help="folder that build_tfrecords.py wrote; unset: drawn")
    parser.add_argument("--batches", type=whole(), default=100, help="of 8 x 4 clips of 6 frames (default 100)")
    parser.add_argument("--workers", type=whole(), default=2, help="threads (default 2)")
    parser.add_argument("--rounds", type=whole(), default=5, help="of which the best counts (default 5)")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as drawn:
        folder = flags.records or draw(Path(drawn), "train", 4 * IDENTITIES * TRACKLETS, 4 * IDENTITIES)
        _compare(RecordSet.open(folder, "train"), flags)


def _compare(records: RecordSet, flags: argparse.Namespace) -> None:
    sampler = IdentitySampler(records.pids, IDENTITIES, TRACKLETS, 0)
    size = records.image_size(0)
    batches = TrainBatches(records, sampler, CLIP_LENGTH, size, flags.batches)
    files = _files(records, sampler, flags.batches)
    cv2.setNumThreads(1)
    found, in_cpu = {}, {}
    for _ in range(flags.rounds):  # the best, taken in turns, so that a busy moment meets all of them
        for name, work in (("loader", lambda: sum(batch["frames"].shape[0] * batch["frames"].shape[1] for batch in
                                                  read_ahead(batches, 0, flags.workers))),
                           ("decoding", lambda: _in_threads(_decode, files, flags.workers)),
                           ("OpenCV's", lambda: _in_threads(_decode_by_opencv, files, flags.workers)),
                           ("frame by frame", lambda: _in_threads(lambda data: _plain(data, size), files,
                                                                  flags.workers))):
            for rates, rate in zip((found, in_cpu), _rates(work), strict=True):
                rates[name] = max(rates.get(name, 0.0), rate)
    rows = [{"what": name, **_beside(name, found, "second"), **_beside(name, in_cpu, "cpu_second")} for name in found]
    flags.out.write_text(json.dumps(rows, indent=2) + "\n")
    mean = np.mean([len(data) for data in files])
    show(f"{len(files):,} frames of {size[0]} x {size[1]}, {mean / 1000:.1f} kB each, {flags.workers} threads",
         ["what", "frames/s", "of decoding", "of frame by frame", "frames/s of processor", "of decoding",
          "of frame by frame"],
         [[name, *(f"{figure:,.0f}" if figure > 99 else f"{figure:.2f}" for figure in figures)]
          for name, *figures in map(dict.values, rows)])


def _files(records: RecordSet, sampler: IdentitySampler, batches: int) -> list[bytes]:
    """The JPEG files of as many batches, in memory."""
    rng, files = np.random.default_rng(0), []
    for step in range(batches):
        positions = sampler.batch(step)
        for position, indices in zip(positions, train_clips(records.lengths[positions], CLIP_LENGTH, rng), strict=True):
            files += [records.frame(int(position), int(k)) for k in indices]
    return files


def _beside(name: str, rates: dict[str, float], per: str) -> dict[str, float]:
    """The rate of one of them, and its ratios to the two others."""
    return {f"frames_per_{per}": rates[name], f"of_decoding_per_{per}": rates[name] / rates["decoding"],
            f"of_frame_by_frame_per_{per}": rates[name] / rates["frame by frame"]}


def _rates(work: Callable[[], int]) -> tuple[float, float]:
    """Frames in a second, and in a second of processor time of all threads."""
    began, busy = time.perf_counter(), time.process_time()
    frames = work()
    return frames / (time.perf_counter() - began), frames / (time.process_time() - busy)


def _in_threads(work: Callable[[bytes], object], files: list[bytes], workers: int) -> int:
    """Hands the files to threads in parts: a pool of threads takes its tasks one by one, whatever its `chunksize`."""
    def each(part: list[bytes]) -> int:
        return sum(work(data) is not None for data in part)  # results are not kept

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(each, (files[i:i + _PART] for i in range(0, len(files), _PART))))


def _decode(data: bytes) -> np.ndarray:
    if images.simplejpeg is None:
        return _decode_by_opencv(data)
    try:
        return images.simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # the loader leaves such a file to OpenCV, too
        return _decode_by_opencv(data)


def _decode_by_opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def _plain(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """One frame as the released loader makes it."""
    rng = np.random.default_rng(len(data))
    image = Image.open(io.BytesIO(data)).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
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
