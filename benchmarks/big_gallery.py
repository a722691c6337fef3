"""Exact CMC and mAP of a big gallery on the disk: time and memory, beside FAISS's nearest 50 where faiss is installed.

    python -m benchmarks.big_gallery --out=big.json [--queries=10000] [--gallery=1000000] [--dtype=float32]

Features are drawn into .npy files in `--folder` and deleted at the end. Half of the gallery are distractors, each
person has 25 rows under 6 cameras, one row in a hundred is ambiguous. Scoring and FAISS run one after the other, each
in a process of its own; memory is the most that was resident in it, so this needs Linux. FAISS (`pip install
faiss-cpu`) holds the whole gallery in memory, and what it gives is no score: it does not find a right answer beyond
the nearest 50, so there is no AP, nor one that rows of the query's own camera push out of them.
"""

import importlib.util
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from benchmarks import command
from cfaan_jax import metrics
from cfaan_jax.metrics.big_gallery import CosineDistances
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show

_PER_PERSON, _CAMERAS, _NOISE, _AMBIGUOUS, _NEAREST, _ROWS = 25, 6, 3.0, 0.01, 50, 8192
_KINDS = {"float32": np.float32, "float16": np.float16, "bfloat16": jnp.bfloat16}


def main(arguments: list[str] | None = None) -> None:
    parser = command("big_gallery", __doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--dtype", choices=_KINDS, default="float32", help="of the features on the disk")
    parser.add_argument("--protocols", default="mars,mars_revised", help="scored from one pass; or all")
    parser.add_argument("--folder", type=Path, help="where the features are drawn; unset: the system's temporary one")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=flags.folder) as name:
        folder, labels = Path(name), _labels(flags.queries, flags.gallery)
        kind = np.dtype(_KINDS[flags.dtype])
        for split in ("q", "g"):
            _draw(folder / f"{split}.npy", labels[f"{split}_pids"], flags.dimensions, kind)
        found = {"score": _alone(_score, folder, labels, flags.protocols)}
        if importlib.util.find_spec("faiss"):
            found["faiss"] = _alone(_faiss, folder, kind, flags.gallery)
    found["about"] = {name: value for name, value in vars(flags).items() if name not in ("out", "folder")}
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    show(f"{flags.queries:,} queries, gallery of {flags.gallery:,}, {flags.dimensions:,} dimensions, {flags.dtype}",
         ["what", "seconds", "of these distances", "GiB"],
         [[row["what"], f"{row['seconds']:.1f}", f"{row['distances']:.1f}" if "distances" in row else "",
           f"{row['bytes'] / 2**30:.2f}"] for name, row in found.items() if name != "about"],
         [f"{name}: mAP {100 * mean:.2f}, mINP {100 * inverse:.2f}, rank-1 {100 * first:.2f}, rank-50 {100 * fifty:.2f}"
          for name, (mean, inverse, first, fifty) in found["score"]["figures"].items()])


def _labels(queries: int, gallery: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    people = max(1, gallery // (2 * _PER_PERSON))
    labels = {}
    for split, count in (("q", queries), ("g", gallery)):
        pids = rng.integers(1, people + 1, count)
        if split == "g":
            pids[rng.random(count) < 0.5] = 0
        ambiguous = (pids > 0) & (rng.random(count) < _AMBIGUOUS)
        labels |= {f"{split}_pids": pids, f"{split}_camids": rng.integers(1, _CAMERAS + 1, count),
                   f"{split}_second": np.where(ambiguous, rng.integers(1, people + 1, count), pids)}
    return labels


def _draw(path: Path, pids: np.ndarray, dimensions: int, kind: np.dtype) -> None:
    """Features around a centre for each person; those of distractors have none."""
    rng = np.random.default_rng(int(path.stem == "g"))
    centres = np.random.default_rng(2).standard_normal((pids.max() + 1, dimensions), np.float32)
    centres[0] = 0
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": kind.str, "fortran_order": False, "shape": (len(pids), dimensions)})
        for start in range(0, len(pids), _ROWS):
            centre = centres[pids[start:start + _ROWS]]
            file.write((centre + _NOISE * rng.standard_normal(centre.shape, np.float32)).astype(kind).tobytes())


def _alone(work, *arguments) -> dict:
    """Runs work in a fresh process; its result, and the most memory that was resident in that process, in bytes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(work, *arguments).result()
        return found | {"bytes": pool.submit(_peak).result()}


def _peak() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


class _Timed(CosineDistances):
    """Counts the seconds until the strips are there."""

    seconds = 0.0

    def strips(self) -> Iterator[np.ndarray]:
        strips = super().strips()
        while True:
            began = time.perf_counter()
            strip = next(strips, None)
            self.seconds += time.perf_counter() - began
            if strip is None:
                return
            yield strip


def _score(folder: Path, labels: dict[str, np.ndarray], protocols: str) -> dict:
    began = time.perf_counter()
    distances = _Timed(*(np.load(folder / f"{split}.npy", mmap_mode="r") for split in "qg"))
    scores = metrics.score_all(distances, protocols=protocols, **labels)
    return {"what": f"exact CMC, mAP and mINP: {', '.join(scores)}", "seconds": time.perf_counter() - began,
            "distances": distances.seconds, "figures": {
                name: [score.mAP, score.mINP, float(score.cmc[0]), float(score.cmc[-1])]
                for name, score in scores.items()}}


def _faiss(folder: Path, kind: np.dtype, size: int) -> dict:
    import faiss
    began = time.perf_counter()
    queries = _unit(np.load(folder / "q.npy").view(kind))
    index = faiss.IndexFlatIP(queries.shape[1])
    for start in range(0, size, _ROWS):
        gallery = np.load(folder / "g.npy", mmap_mode="r")  # mapped anew, so that what was read is not held
        index.add(_unit(gallery[start:start + _ROWS].view(kind)))
    index.search(queries, _NEAREST)
    return {"what": f"FAISS IndexFlatIP: nearest {_NEAREST}", "seconds": time.perf_counter() - began}


def _unit(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


if __name__ == "__main__":
    run_command(main)
