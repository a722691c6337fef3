"""Clips per second of the features of an evaluation, from records to means over tracklets, against the bare forward.

    python -m benchmarks.extraction --out=extraction.json [--records=FOLDER] [--variant=c2d] [--batch=32] [--turns=3]

    extraction      `features.extract`: frames read and decoded, packed into batches, features, means over tracklets
    bare forward    as many batches of the same shape, which lie on the device, through the same compiled program

The two are timed in turns, and the best turn counts, so that a busy moment does not. Without --records, tracklets are
drawn that fill --batches batches with clips of 256 x 128 frames.
"""

import json
import tempfile
import time
from pathlib import Path

import jax

from benchmarks import command, whole
from benchmarks.drawn_records import LENGTH, draw
from cfaan_jax import models
from cfaan_jax.data.clips import MODES
from cfaan_jax.data.loader import ClipBatches
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.tracklet_record import SPLITS
from cfaan_jax.evaluate import features
from cfaan_jax.experiment.config import create_model
from cfaan_jax.experiment.recipes import VARIANTS, recipe
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.sharding import batch_sharding, data_mesh, put_on_mesh, replicated
from cfaan_jax.runtime.text_tables import show

_T = 6  # frames of a clip


def main(arguments: list[str] | None = None) -> None:
    parser = command("extraction", __doc__)
    parser.add_argument("--records", type=Path, help="folder that build_tfrecords.py wrote; unset: drawn")
    parser.add_argument("--split", default="gallery", choices=SPLITS, help="(default gallery)")
    parser.add_argument("--variant", choices=VARIANTS, default="c2d", help="of configs/mars.py (default c2d)")
    parser.add_argument("--compute", default="float32", choices=models.COMPUTE, help="(default float32)")
    parser.add_argument("--clips", default="all_sampled", choices=MODES, help="of a tracklet (default all_sampled)")
    parser.add_argument("--batch", type=whole(), default=32, help="clips (default 32)")
    parser.add_argument("--batches", type=whole(), default=20, help="that are drawn (default 20)")
    parser.add_argument("--workers", type=whole(), default=2, help="reading threads (default 2)")
    parser.add_argument("--turns", type=whole(), default=3, help="(default 3)")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as drawn:
        tracklets = -(-flags.batch * flags.batches * _T // LENGTH)
        folder = flags.records or draw(Path(drawn), flags.split, tracklets)
        found = measure(RecordSet.open(folder, flags.split), flags)
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    show(f"{flags.variant}, {found['clips']} clips in {found['batches']} batches of {flags.batch}, "
         f"{jax.device_count()} x {found['device']}", ["what", "clips/s", "of the bare forward"],
         [["extraction", f"{found['extraction']:.2f}", f"{found['ratio']:.3f}"],
          ["bare forward", f"{found['forward']:.2f}", "1.000"]])


def measure(split: RecordSet, flags) -> dict:
    """Clips per second, padding left out, in the best of the turns."""
    config = recipe(flags.variant)
    config.model.update(pretrained="none", compute=flags.compute)
    clip_length, image_size = config.data.clip_length, tuple(config.data.image_size)
    model, mesh = create_model(config, num_classes=1), data_mesh()
    batches = ClipBatches(split, flags.clips, clip_length, image_size, flags.batch)
    tracklets = [batches[i]["tracklet"] for i in range(len(batches))]
    clips = sum(int((each >= 0).sum()) for each in tracklets)
    batch = put_on_mesh((batches[0]["frames"], batches[0]["rectangles"]), batch_sharding(mesh, flags.batch))
    network = features.features_of(model, replicated(mesh))

    def extraction() -> None:
        features.extract(model, split, clips=flags.clips, clip_length=clip_length, image_size=image_size,
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


if __name__ == "__main__":
    run_command(main)
