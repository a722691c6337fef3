"""A tiny set of records in the real format: people are noisy colours."""

import json
from pathlib import Path

import cv2
import numpy as np

from cfaan_jax.data import example
from cfaan_jax.data.index import load_index
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import MANIFEST
from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, decode, encode
from cfaan_jax.metrics.search import About

SIZE = (64, 32)
ABOUT = About("synthetic", "", aligned=True, model="cfaan", seed=0, weights="last", clips="test")


def frame(rng: np.random.Generator, pid: int, size: tuple[int, int] = SIZE) -> bytes:
    """A JPEG file in the colours of a person: one above, one below."""
    colours = np.random.default_rng(1000 + pid).integers(0, 256, (2, 1, 3))
    image = np.repeat(colours, size[0] // 2, axis=0) + rng.normal(0, 40, (*size, 3))
    return cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8))[1].tobytes()


def tracklet(name: str, split: str, track_id: int, pid: int, camid: int, frames: list[bytes],
             rectangles: np.ndarray | None = None, **fields) -> TrackletRecord:
    """A record; without rectangles all pixels are real, and nothing more is known of it without other fields."""
    height, width = cv2.imdecode(np.frombuffer(frames[0], np.uint8), cv2.IMREAD_COLOR).shape[:2]
    whole = np.tile([0, height, 0, width], (len(frames), 1))
    unknown = dict(boxes=whole, actions=("none",) * len(frames), candidates=(0,) * len(frames),
                   sources=("",) * len(frames))
    return TrackletRecord(name, split, track_id, pid, camid, frames=tuple(frames),
                          rectangles=whole if rectangles is None else rectangles, **unknown | fields)


def write(directory: Path, tracklets: list[TrackletRecord], **manifest) -> Path:
    """Writes one shard for each split that has tracklets, and all that belongs to it; `manifest` has fields of it."""
    directory.mkdir(parents=True, exist_ok=True)
    splits = {}
    for each in tracklets:
        splits.setdefault(each.split, []).append(each)
    for split, members in splits.items():
        with (directory / f"tiny-{split}.tfrecord-00000-of-00001").open("wb") as file:
            file.writelines(example.pack_tfrecord(encode(each)) for each in members)
        rebuild_index(directory, split)
    counts = {split: {"tracklets": len(members), "frames": sum(len(each.frames) for each in members)}
              for split, members in splits.items()}
    (directory / MANIFEST).write_text(json.dumps({
        "schema_version": SCHEMA_VERSION, "dataset": "tiny", "note": "", "aligned": False, "counts": counts,
        "settings": {}} | manifest))
    return directory


def damage(directory: Path, split: str, *positions: int) -> Path:
    """Flips a bit in the payload of some records."""
    index = load_index(directory, split)
    for position in positions:
        with (directory / str(index.shard_names[index.shards[position]])).open("r+b") as file:
            file.seek(index.frame_offsets[index.frame_start[position]])
            [byte] = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
    return directory


def reseal(directory: Path, split: str, position: int, change) -> None:
    """Changes the payload of a record, keeps its length, and makes its checksum right."""
    [path] = directory.glob(f"*-{split}.tfrecord-*")
    payloads = [payload for _, payload in example.read_file(path)]
    changed = change(payloads[position])
    assert len(changed) == len(payloads[position]) and changed != payloads[position]
    payloads[position] = changed
    path.write_bytes(b"".join(map(example.pack_tfrecord, payloads)))


def blackened(payload: bytes) -> bytes:
    """A record whose last frame is zeros."""
    frame = decode(payload).frames[-1]
    return payload.replace(frame, bytes(len(frame)))


def write_all(directory: Path) -> Path:
    """Eight training identities (the first with one tracklet), four others to search; one distractor."""
    rng = np.random.default_rng(0)
    tracklets = []

    def add(split: str, pid: int, camid: int) -> None:
        row = sum((each.split == "train") == (split == "train") for each in tracklets)
        frames = [frame(rng, pid) for _ in range(int(rng.integers(2, 9)))]
        tracklets.append(tracklet(f"{split}-{row}", split, row, pid, camid, frames))

    for pid in range(1, 9):
        for camid in range(1, 2 if pid == 1 else 4):
            add("train", pid, camid)
    for pid in range(11, 15):
        add("query", pid, 1)
    for pid in (11, 12, 13, 14, 11, 12, 13, 14, 0):
        add("gallery", pid, 2)
    return write(directory, tracklets)
