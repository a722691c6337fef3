"""Frames per second of the training input, against bare decoding of the same files and a pipeline frame by frame.

    python -m benchmarks.input --out=input.json [--records=FOLDER] [--batches=100] [--workers=2]

    loader          what training uses: frames picked through the index, decoded ahead of the step by processes
    its threads     likewise in threads, as by config.data.processes=False
    decoding        the loader's decoder (simplejpeg, or OpenCV where that is missing), over the same JPEG files from
                    memory, in as many threads, and nothing else
    OpenCV's        likewise with cv2.imdecode, which gives the same pixels
    frame by frame  what the released loader does to each frame: Pillow decodes, resizes (bilinear) and flips, NumPy
                    makes floats, normalises and erases; in as many threads

All take turns, so that a busy moment of the machine meets each of them. Rates are the best of all rounds, ratios the
middle one (with the lowest and the highest) of those within a round. Without --records, tracklets of 60 frames of 256 x
128 and 9 kB are drawn.
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

import cv2
import numpy as np
from PIL import Image

from benchmarks import command, whole
from benchmarks.drawn_records import draw
from cfaan_jax.data import images
from cfaan_jax.data.clips import train_clips
from cfaan_jax.data.loader import TrainBatches, read_ahead
from cfaan_jax.data.reading import ClipReader
from cfaan_jax.data.reading_processes import ReadingProcesses
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

IDENTITIES, TRACKLETS, CLIP_LENGTH = 8, 4, 6
DECODING, BY_FRAME = "decoding", "frame by frame"  # what the others are compared with
_MEAN, _DEVIATION = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
_PART = 64  # files that a thread is given at once


def main(arguments: list[str] | None = None) -> None:
    parser = command("input", __doc__)
    parser.add_argument("--records", type=Path, help="folder that build_tfrecords.py wrote; unset: drawn")
    parser.add_argument("--batches", type=whole(), default=100, help="of 8 x 4 clips of 6 frames (default 100)")
    parser.add_argument("--workers", type=whole(), default=2, help="processes, or threads (default 2)")
    parser.add_argument("--rounds", type=whole(), default=9, help="in which all take a turn (default 9)")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as drawn:
        folder = flags.records or draw(Path(drawn), "train", 4 * IDENTITIES * TRACKLETS, 4 * IDENTITIES)
        _compare(RecordSet.open(folder, "train"), flags)


def _compare(records: RecordSet, flags: argparse.Namespace) -> None:
    sampler, size = IdentitySampler(records.pids, IDENTITIES, TRACKLETS, 0), records.image_size(0)
    files = _files(records, sampler, flags.batches)
    cv2.setNumThreads(1)

    def loader(reader: ClipReader | ReadingProcesses) -> Callable[[], int]:
        batches = TrainBatches(records, sampler, CLIP_LENGTH, size, flags.batches, reader=reader)
        return lambda: sum(math.prod(batch["frames"].shape[:2]) for batch in read_ahead(batches, 0, flags.workers))

    def in_threads(work: Callable[[bytes], object]) -> Callable[[], int]:
        return lambda: _in_threads(work, files, flags.workers)

    works = {"loader": loader(ReadingProcesses(records, flags.workers)), "its threads": loader(ClipReader(records)),
             DECODING: in_threads(_decode), "OpenCV's": in_threads(_decode_by_opencv),
             BY_FRAME: in_threads(lambda data: _plain(data, size))}
    works["loader"]()  # its processes start, and the memory of batches is taken
    works["its threads"]()
    rounds = [{name: _rate(work) for name, work in works.items()} for _ in range(flags.rounds)]
    rows = [{"what": name, "frames_per_second": max(each[name] for each in rounds),
             "of_decoding": [each[name] / each[DECODING] for each in rounds],
             "of_frame_by_frame": [each[name] / each[BY_FRAME] for each in rounds]} for name in works]
    flags.out.write_text(json.dumps(rows, indent=2) + "\n")
    mean = np.mean([len(data) for data in files])
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
        for position, indices in zip(positions, train_clips(records.lengths[positions], CLIP_LENGTH, rng), strict=True):
            files += [records.frame(int(position), int(k)) for k in indices]
    return files


def _rate(work: Callable[[], int]) -> float:
    """Frames in a second."""
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


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
