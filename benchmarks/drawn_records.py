"""Records of tracklets whose frames are a few pictures made by code, JPEG files as large as those of MARS."""

import json
from pathlib import Path

import numpy as np

from benchmarks.mars_records import SIZE, pool
from cfaan_jax.data import example
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import MANIFEST
from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, encode

LENGTH = 60  # frames of a tracklet, as in MARS
_MOST = 9_000  # bytes of a frame


def draw(folder: Path, split: str, tracklets: int, identities: int = 1) -> Path:
    """Writes them into an empty folder, in one split, the identities in turn; returns the folder."""
    pictures, whole = pool(_MOST), np.tile([0, SIZE[0], 0, SIZE[1]], (LENGTH, 1))
    members = [TrackletRecord(
        f"{split}-{row}", split, row, pid=1 + row % identities, camid=1, frames=tuple(pictures[i] for i in chosen),
        rectangles=whole, boxes=whole, actions=("none",) * LENGTH, candidates=(0,) * LENGTH, sources=("",) * LENGTH)
        for row, chosen in enumerate(np.random.default_rng(0).integers(0, len(pictures), (tracklets, LENGTH)))]
    with (folder / f"drawn-{split}.tfrecord-00000-of-00001").open("wb") as file:
        file.writelines(example.pack_tfrecord(encode(each)) for each in members)
    rebuild_index(folder, split)
    (folder / MANIFEST).write_text(json.dumps({
        "schema_version": SCHEMA_VERSION, "dataset": "drawn", "note": "", "aligned": False, "settings": {},
        "counts": {split: {"tracklets": len(members), "frames": LENGTH * len(members)}}}))
    return folder
