"""Records of tracklets whose frames are a few pictures drawn by code, JPEG files as large as those of MARS."""

import json
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.data import example, records

LENGTH = 60  # frames of a tracklet, as in MARS
_SIZE, _PICTURES = (256, 128), 16


def draw(folder: Path, split: str, tracklets: int, identities: int = 1) -> Path:
    """Writes them into an empty folder, in one split, the identities in turn; returns the folder."""
    rng = np.random.default_rng(0)
    pictures, whole = [_picture(rng) for _ in range(_PICTURES)], np.tile([0, _SIZE[0], 0, _SIZE[1]], (LENGTH, 1))
    members = [records.TrackletRecord(
        f"{split}-{row}", split, row, pid=1 + row % identities, camid=1, frames=tuple(pictures[i] for i in chosen),
        rectangles=whole, boxes=whole, actions=("none",) * LENGTH, candidates=(0,) * LENGTH, sources=("",) * LENGTH)
        for row, chosen in enumerate(rng.integers(0, _PICTURES, (tracklets, LENGTH)))]
    with (folder / f"drawn-{split}.tfrecord-00000-of-00001").open("wb") as file:
        file.writelines(example.frame(records.encode(each)) for each in members)
    records.rebuild_index(folder, split)
    (folder / records.MANIFEST).write_text(json.dumps({
        "schema_version": records.SCHEMA_VERSION, "dataset": "drawn", "note": "", "aligned": False, "settings": {},
        "counts": {split: {"tracklets": len(members), "frames": LENGTH * len(members)}}}))
    return folder


def _picture(rng: np.random.Generator) -> bytes:
    """A JPEG file of patches of colour and noise, of about the size of those of MARS (9 kB)."""
    patches = cv2.resize(rng.integers(0, 256, (8, 4, 3)).astype(np.uint8), _SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    image = (patches + rng.normal(0, 12, (*_SIZE, 3))).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
