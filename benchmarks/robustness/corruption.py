"""Damages copies of small record sets and checkpoints in many ways, and counts what the program makes of each.

    python -m benchmarks.robustness.corruption --out=corruption.json --files=2000 [--seed=0]

One file is damaged at a time. Records are then opened and every frame is read, once with on_bad_record=error and once
with skip. What can come of it:

    error       an error that names the file and a remedy
    left out    the damaged tracklets are missing, counted and told of, with their file; all others are as before
    as before   every frame, rectangle and label is as before: the damage touched nothing that is read
    WRONG       other content, or tracklets that are missing without a word
    CRASH       another exception, or an error that names no file or no remedy

The exit status is 1 if anything was WRONG or a CRASH.
"""

import contextlib
import io
import itertools
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from ml_collections import ConfigDict

from benchmarks import command
from cfaan_jax.data import example
from cfaan_jax.data.index import index_path
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.manifest import MANIFEST
from cfaan_jax.data.records import RecordSet, TrackletRecord
from cfaan_jax.data.splits import ON_BAD_RECORD, open_split
from cfaan_jax.data.tracklet_record import SCHEMA_VERSION, encode
from cfaan_jax.errors import InputError
from cfaan_jax.experiment.checkpoint import Checkpoints, TrainingProgress
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.progress import Progress
from cfaan_jax.runtime.text_tables import show

OUTCOMES = ("error", "left out", "as before", "WRONG", "CRASH")
_REMEDIES = ("again", "restore", "correct", "delete", "make it")
_SPLIT, _SHARDS, _TRACKLETS, _FRAMES, _SIZE = "train", 2, 8, 3, (24, 16)
_SHARD_NAME = f"drawn-{_SPLIT}.tfrecord"
_Rng = np.random.Generator


# --- what is damaged ---

def draw_records(folder: Path, seed: int) -> Path:
    """A small record set; the same shapes and lengths of lists for every seed, other pictures and names."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    framed = [example.pack_tfrecord(encode(_tracklet(rng, seed, number))) for number in range(_TRACKLETS)]
    own = _TRACKLETS // _SHARDS
    for number in range(_SHARDS):
        path = folder / f"{_SHARD_NAME}-{number:05d}-of-{_SHARDS:05d}"
        path.write_bytes(b"".join(framed[number * own:(number + 1) * own]))
    (folder / MANIFEST).write_text(json.dumps({
        "schema_version": SCHEMA_VERSION, "dataset": "drawn", "note": "", "aligned": False,
        "counts": {_SPLIT: {"tracklets": _TRACKLETS}}, "settings": {}}))
    rebuild_index(folder, _SPLIT)
    return folder


def _tracklet(rng: _Rng, seed: int, number: int) -> TrackletRecord:
    frames = [cv2.imencode(".jpg", rng.integers(0, 256, (*_SIZE, 3), np.uint8))[1].tobytes() for _ in range(_FRAMES)]
    whole = np.tile([0, _SIZE[0], 0, _SIZE[1]], (_FRAMES, 1))
    return TrackletRecord(
        f"S{seed % 10}T{number}", _SPLIT, number, 1 + number // 2, 1 + number % 2, tuple(frames), rectangles=whole,
        boxes=whole, actions=("none",) * _FRAMES, candidates=(0,) * _FRAMES, sources=("",) * _FRAMES)


def _shard(folder: Path, rng: _Rng) -> Path:
    return sorted(folder.glob("*.tfrecord-*"))[rng.integers(_SHARDS)]


def _write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return path.name


def _flipped(content: bytes, start: int, end: int, rng: _Rng) -> bytes:
    """One to three bits between two places are turned."""
    changed = bytearray(content)
    for place in rng.integers(start, end, rng.integers(1, 4)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed) if bytes(changed) != content else _flipped(content, start, end, rng)


def _in_record(start: Callable[[int], int], end: Callable[[int], int]):
    """Turns bits between two places of a record, which depend on the length of its payload."""
    def harm(folder: Path, _: Path, rng: _Rng) -> str:
        path = _shard(folder, rng)
        places = [(offset - example.HEADER_BYTES, len(payload)) for offset, payload in example.read_file(path)]
        offset, length = places[rng.integers(len(places))]
        return _write(path, _flipped(path.read_bytes(), offset + start(length), offset + end(length), rng))
    return harm


def _zeroed(folder: Path, _: Path, rng: _Rng) -> str:
    """A run of bytes is lost: a bad sector, or a download that left a hole."""
    path = _shard(folder, rng)
    content = bytearray(path.read_bytes())
    start = int(rng.integers(len(content) - 512))
    content[start:start + 512] = bytes(512)
    return _write(path, bytes(content))


def _cut(choose: Callable[[Path, _Rng], Path]):
    def harm(folder: Path, _: Path, rng: _Rng) -> str:
        path = choose(folder, rng)
        content = path.read_bytes()
        return _write(path, content[:rng.integers(len(content))])
    return harm


def _missing(choose: Callable[[Path, _Rng], Path]):
    def harm(folder: Path, _: Path, rng: _Rng) -> str:
        path = choose(folder, rng)
        path.unlink()
        return path.name
    return harm


def _shifted(folder: Path, _: Path, rng: _Rng) -> str:
    """Bytes put in, or taken out."""
    path = _shard(folder, rng)
    content, place, count = path.read_bytes(), int(rng.integers(1000)), int(rng.integers(1, 9))
    inserted = content[:place] + rng.bytes(count) + content[place:]
    return _write(path, inserted if rng.random() < 0.5 else content[:place] + content[place + count:])


def _reordered(folder: Path, _: Path, rng: _Rng) -> str:
    """Whole records in another order: a shard of the right size whose index is stale."""
    path = _shard(folder, rng)
    framed = [example.pack_tfrecord(payload) for _, payload in example.read_file(path)]
    return _write(path, b"".join(framed[i] for i in np.roll(np.arange(len(framed)), rng.integers(1, len(framed)))))


def _exchanged(folder: Path, _: Path, rng: _Rng) -> str:
    one, other = sorted(folder.glob("*.tfrecord-*"))
    content = one.read_bytes()
    _write(one, other.read_bytes())
    _write(other, content)
    return _SHARD_NAME  # both are damaged


def _foreign(choose: Callable[[Path, _Rng], Path]):
    """The file of the same name of another record set, which may be of the same size."""
    def harm(folder: Path, other: Path, rng: _Rng) -> str:
        path = choose(folder, rng)
        _write(path, (other / path.name).read_bytes())
        return _SHARD_NAME  # an index that does not fit its shards may be told as shards that do not fit their index
    return harm


def _resealed(change: Callable[[bytes, _Rng], bytes], index_again: bool):
    """A frame is changed and all checksums made right."""
    def harm(folder: Path, _: Path, rng: _Rng) -> str:
        path = _shard(folder, rng)
        payloads = [payload for _, payload in example.read_file(path)]
        place, k = rng.integers(len(payloads)), rng.integers(_FRAMES)
        features = example.parse(payloads[place])
        features["frames"][k] = change(features["frames"][k], rng)
        payloads[place] = example.serialize(features)
        _write(path, b"".join(map(example.pack_tfrecord, payloads)))
        if index_again:
            with contextlib.suppress(InputError), contextlib.redirect_stdout(io.StringIO()):
                rebuild_index(folder, _SPLIT)
        return path.name
    return harm


def _jpeg_cut(frame: bytes, rng: _Rng) -> bytes:
    return frame[:rng.integers(1, len(frame))]


def _jpeg_tail_zeroed(frame: bytes, rng: _Rng) -> bytes:
    kept = int(rng.integers(1, len(frame) - 1))
    return frame[:kept] + bytes(len(frame) - kept)


def _no_jpeg(frame: bytes, rng: _Rng) -> bytes:
    return rng.bytes(len(frame))


def _index(folder: Path, _: _Rng) -> Path:
    return index_path(folder, _SPLIT)


def _manifest(folder: Path, _: _Rng) -> Path:
    return folder / MANIFEST


def _bits(choose: Callable[[Path, _Rng], Path]):
    def harm(folder: Path, _: Path, rng: _Rng) -> str:
        path = choose(folder, rng)
        content = path.read_bytes()
        return _write(path, _flipped(content, 0, len(content), rng))
    return harm


def _schema(folder: Path, _: Path, rng: _Rng) -> str:
    version = [0, 2, -1, "1", None][rng.integers(5)]
    if rng.random() < 0.5:
        path = _manifest(folder, rng)
        return _write(path, json.dumps(json.loads(path.read_text()) | {"schema_version": version}).encode())
    path = _index(folder, rng)
    with np.load(path) as stored:
        arrays = dict(stored) | {"schema_version": np.array(int(rng.integers(2, 9)))}
    np.savez(path, **arrays)
    return path.name


def _checkpoint_file(folder: Path, rng: _Rng) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return files[rng.integers(len(files))]


# What is done to records, by its name: (the folder, that of another set, rng) -> name of the damaged file.
RECORDS = {
    "length": _in_record(lambda _: 0, lambda _: 8),
    "checksum of the length": _in_record(lambda _: 8, lambda _: example.HEADER_BYTES),
    "payload": _in_record(lambda _: example.HEADER_BYTES, lambda n: example.HEADER_BYTES + n),
    "checksum of the payload": _in_record(lambda n: example.HEADER_BYTES + n,
                                          lambda n: example.HEADER_BYTES + n + example.FOOTER_BYTES),
    "512 bytes zero": _zeroed, "shard cut": _cut(_shard), "shard missing": _missing(_shard),
    "bytes put in or out": _shifted, "records in another order": _reordered, "shards exchanged": _exchanged,
    "shard of another set": _foreign(_shard), "index of another set": _foreign(_index), "index: bits": _bits(_index),
    "index cut": _cut(_index), "index missing": _missing(_index), "manifest: bits": _bits(_manifest),
    "manifest cut": _cut(_manifest), "schema version": _schema,
    "JPEG cut, sealed": _resealed(_jpeg_cut, False), "JPEG cut, sealed, indexed": _resealed(_jpeg_cut, True),
    "JPEG's end zero, sealed": _resealed(_jpeg_tail_zeroed, False), "no JPEG, sealed": _resealed(_no_jpeg, False),
}
CHECKPOINTS = {"checkpoint file missing": _missing(_checkpoint_file), "checkpoint file cut": _cut(_checkpoint_file)}


# --- what comes of it ---

def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = command("robustness.corruption", __doc__)
    parser.add_argument("--files", type=int, default=2000, help="how many are damaged (default 2,000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (default 0)")
    flags = parser.parse_args(arguments)
    rng, counts, bad = np.random.default_rng(flags.seed), {}, []
    with tempfile.TemporaryDirectory() as place:
        trials = _Trials(Path(place), flags.seed)
        with Progress("damaging files", flags.files) as progress:
            for number, name in zip(range(flags.files), itertools.cycle((*RECORDS, *CHECKPOINTS)), strict=False):
                for policy, (outcome, said) in trials.run(number, name, rng).items():
                    counts.setdefault((name, policy), Counter())[outcome] += 1
                    if outcome in ("WRONG", "CRASH"):
                        bad.append({"file": number, "damage": name, "on_bad_record": policy, "said": said})
                progress.advance()
    rows = [{"damage": name, "on_bad_record": policy, **{each: count[each] for each in OUTCOMES}}
            for (name, policy), count in counts.items()]
    flags.out.write_text(json.dumps({"files": flags.files, "seed": flags.seed, "counts": rows, "bad": bad}, indent=2)
                         + "\n")
    show(f"{flags.files:,} damaged files, seed {flags.seed}", ["damage", "on_bad_record", *OUTCOMES],
         [[row["damage"], row["on_bad_record"], *(f"{row[each]:,}" for each in OUTCOMES)] for row in rows],
         [f"{each['damage']}, {each['on_bad_record']}: {each['said']}" for each in bad[:20]])
    return 1 if bad else 0


class _Trials:
    """Whole sets to damage copies of, and what reading them gives."""

    def __init__(self, place: Path, seed: int):
        self._place = place
        self._whole, self._other = (draw_records(place / name, 10 * seed + n) for n, name in enumerate(("a", "b")))
        self._expected = _content(open_split(self._whole, _SPLIT, _data("error")))
        self._workdir = place / "run"
        self._arrays = {"weights": np.arange(4000, dtype=np.float32), "bias": np.ones((7, 3), np.float32)}
        with Checkpoints(self._workdir) as checkpoints:
            checkpoints.save("last", TrainingProgress(step=3, num_classes=5), model=self._arrays)

    def run(self, number: int, name: str, rng: _Rng) -> dict[str, tuple[str, str]]:
        """Damages one file of a copy; (outcome, what was said) by `on_bad_record`, "" for checkpoints."""
        folder = self._place / f"{number}"
        shutil.copytree(self._workdir if name in CHECKPOINTS else self._whole, folder)
        file = (RECORDS | CHECKPOINTS)[name](folder, self._other, rng)
        if name in CHECKPOINTS:
            found = {"": _outcome(lambda: self._restore(folder), "checkpoints")}
        else:
            found = {policy: _outcome(lambda policy=policy: self._read(folder, policy), file)
                     for policy in ON_BAD_RECORD}
        shutil.rmtree(folder)
        return found

    def _read(self, folder: Path, policy: str) -> tuple[str, str]:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            found = _content(open_split(folder, _SPLIT, _data(policy)))
        told = [line for line in printed.getvalue().splitlines() if line.startswith("left out: ")]
        lost = self._expected.keys() - found.keys()
        if any(self._expected.get(name) != content for name, content in found.items()):
            return "WRONG", "other content"
        if len(told) != len(lost) or not all(str(folder) in line for line in told):
            return "WRONG", f"{sorted(lost)} are missing, and this was said of it: {told}"
        return ("left out" if lost else "as before"), ""

    def _restore(self, folder: Path) -> tuple[str, str]:
        with Checkpoints(folder, read_only=True) as checkpoints:
            progress, found = checkpoints.progress("last"), checkpoints.restore("last", model=self._arrays)["model"]
        same = progress == TrainingProgress(step=3, num_classes=5) and all(
            np.array_equal(found[name], array) for name, array in self._arrays.items())
        return ("as before", "") if same else ("WRONG", "other content")


def _data(policy: str) -> ConfigDict:
    return ConfigDict({"on_bad_record": policy, "workers": 1})


def _content(found: RecordSet) -> dict[str, tuple]:
    """All that training and evaluation take from a record set, by tracklet."""
    return {name: (found.pids[i], found.camids[i], found.track_ids[i], found.rectangles(i).tobytes(),
                   *(found.image(i, k).tobytes() for k in range(found.lengths[i])))
            for i, name in enumerate(found.names)}


def _outcome(work: Callable[[], tuple[str, str]], file: str) -> tuple[str, str]:
    """What the work gives; of errors whether they name a file and a remedy."""
    try:
        return work()
    except InputError as error:
        said = str(error)
        clear = file in said and any(word in said for word in _REMEDIES)
        return ("error" if clear else "CRASH"), said
    except Exception as error:
        return "CRASH", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    run_command(main)
