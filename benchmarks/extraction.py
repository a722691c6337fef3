"""Clips per second of the features of an evaluation, from records to means over tracklets, against the bare forward.

    python -m benchmarks.extraction --out=extraction.json [--records=FOLDER] [--variant=c2d] [--batch=32] [--turns=3]

    extraction      `evaluate.extract`: frames read and decoded, packed into batches, features, means over tracklets
    bare forward    as many batches of the same shape, which lie on the device, through the same compiled program

The two are timed in turns, and the best turn counts, so that a busy moment does not. Without --records, tracklets are
drawn that fill --batches batches with clips of 256 x 128 frames.
"""

import json
import tempfile
import time
from pathlib import Path

import cv2
import jax
import numpy as np

from benchmarks import command, whole
from cfaan_jax import evaluate, models
from cfaan_jax.data import example, records
from cfaan_jax.data.clips import MODES
from cfaan_jax.data.loader import ClipBatches
from cfaan_jax.errors import run_command
from cfaan_jax.experiment import create_model
from cfaan_jax.report.tables import show
from cfaan_jax.sharding import data_mesh, over_batch, placed, replicated
from configs import mars

_SIZE, _LENGTH, _PICTURES = (256, 128), 60, 16  # of a drawn frame and tracklet; different frames


def main(arguments: list[str] | None = None) -> None:
    parser = command("extraction", __doc__)
    parser.add_argument("--records", type=Path, help="folder that build_tfrecords.py wrote; unset: drawn")
    parser.add_argument("--split", default="gallery", choices=records.SPLITS, help="(default gallery)")
    parser.add_argument("--variant", choices=mars.VARIANTS, default="c2d", help="of configs/mars.py (default c2d)")
    parser.add_argument("--compute", default="float32", choices=models.COMPUTE, help="(default float32)")
    parser.add_argument("--clips", default="all_sampled", choices=MODES, help="of a tracklet (default all_sampled)")
    parser.add_argument("--batch", type=whole(), default=32, help="clips (default 32)")
    parser.add_argument("--batches", type=whole(), default=20, help="that are drawn (default 20)")
    parser.add_argument("--workers", type=whole(), default=2, help="reading threads (default 2)")
    parser.add_argument("--turns", type=whole(), default=3, help="(default 3)")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as drawn:
        folder = flags.records or draw(Path(drawn), flags.split, clips=flags.batch * flags.batches)
        found = measure(records.RecordSet.open(folder, flags.split), flags)
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    show(f"{flags.variant}, {found['clips']} clips in {found['batches']} batches of {flags.batch}, "
         f"{jax.device_count()} x {found['device']}", ["what", "clips/s", "of the bare forward"],
         [["extraction", f"{found['extraction']:.2f}", f"{found['ratio']:.3f}"],
          ["bare forward", f"{found['forward']:.2f}", "1.000"]])


def measure(split: records.RecordSet, flags) -> dict:
    """Clips per second, padding left out, in the best of the turns."""
    config = mars.get_config(flags.variant)
    config.model.update(pretrained="none", compute=flags.compute)
    clip_length, image_size = config.data.clip_length, tuple(config.data.image_size)
    model, mesh = create_model(config, num_classes=1), data_mesh()
    batches = ClipBatches(split, flags.clips, clip_length, image_size, flags.batch)
    tracklets = [batches[i]["tracklet"] for i in range(len(batches))]
    clips = sum(int((each >= 0).sum()) for each in tracklets)
    batch = placed((batches[0]["frames"], batches[0]["rectangles"]), over_batch(mesh, flags.batch))
    network = evaluate.features_of(model, replicated(mesh))

    def extraction() -> None:
        evaluate.extract(model, split, clips=flags.clips, clip_length=clip_length, image_size=image_size,
                         batch_size=flags.batch, workers=flags.workers)

    def forward() -> None:
        running = None
        for _ in range(len(batches)):  # one batch is sent off while another runs, as in the extraction
            running, last = network(*batch), running
            jax.block_until_ready(last)
        jax.block_until_ready(running)

    seconds = {extraction: [], forward: []}
    for turn in range(flags.turns + 1):  # the first compiles
        for work, taken in seconds.items():
            began = time.perf_counter()
            work()
            if turn:
                taken.append(time.perf_counter() - began)
    of_extraction, of_forward = (clips / min(taken) for taken in seconds.values())
    return {"device": jax.devices()[0].device_kind, "variant": flags.variant, "compute": flags.compute, "clips": clips,
            "batches": len(batches), "batch": flags.batch, "workers": flags.workers, "extraction": of_extraction,
            "forward": of_forward, "ratio": of_extraction / of_forward, "seconds": list(seconds.values())}


def draw(folder: Path, split: str, clips: int) -> Path:
    """Writes records of tracklets that hold at least so many clips of six frames, of a few drawn pictures."""
    rng = np.random.default_rng(0)
    pictures, whole = [_picture(rng) for _ in range(_PICTURES)], np.tile([0, _SIZE[0], 0, _SIZE[1]], (_LENGTH, 1))
    members = [records.TrackletRecord(
        f"{split}-{row}", split, row, pid=1, camid=1, frames=tuple(pictures[i] for i in chosen), rectangles=whole,
        boxes=whole, actions=("none",) * _LENGTH, candidates=(0,) * _LENGTH, sources=("",) * _LENGTH)
        for row, chosen in enumerate(rng.integers(0, _PICTURES, (-(-clips * 6 // _LENGTH), _LENGTH)))]
    with (folder / f"drawn-{split}.tfrecord-00000-of-00001").open("wb") as file:
        file.writelines(example.frame(records.encode(each)) for each in members)
    records.rebuild_index(folder, split)
    (folder / records.MANIFEST).write_text(json.dumps({
        "schema_version": records.SCHEMA_VERSION, "dataset": "drawn", "note": "", "aligned": False, "settings": {},
        "counts": {split: {"tracklets": len(members), "frames": _LENGTH * len(members)}}}))
    return folder


def _picture(rng: np.random.Generator) -> bytes:
    """A JPEG file of patches of colour and noise, of about the size of those of MARS (9 kB)."""
    patches = cv2.resize(rng.integers(0, 256, (8, 4, 3)).astype(np.uint8), _SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    image = (patches + rng.normal(0, 12, (*_SIZE, 3))).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


if __name__ == "__main__":
    run_command(main)
