"""Scoring and re-ranking at the size of MARS: time against one numpy.argsort of the same matrix, and memory.

    python -m benchmarks.scoring --out=scoring.json [--mars_info=FOLDER] [--rerank]

Identities and cameras are those of MARS (`--mars_info`: the folder with its .mat files), or drawn in its numbers.
Features are drawn. Times are the best of three, in one process; memory is what NumPy holds at most beside the
distances.
"""

import json
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import command
from cfaan_jax import metrics
from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.report.tables import show
from data_prep.datasets import mars

_QUERIES, _JUNK, _DISTRACTORS, _OTHERS, _PEOPLE, _CAMERAS, _DIMENSIONS = 1980, 870, 3248, 6082, 634, 6, 128


def main(arguments: list[str] | None = None) -> None:
    parser = command("scoring", __doc__)
    parser.add_argument("--mars_info", type=Path, help="folder with MARS's .mat files; unset: labels are drawn")
    parser.add_argument("--rerank", action="store_true", help="time re-ranking as well, which takes minutes")
    flags = parser.parse_args(arguments)
    search = _search(flags.mars_info)
    gallery = search.gallery(protocols.get("mars"))
    matrix = search.distances()[:, gallery].copy()
    base = _seconds(lambda: np.argsort(matrix, axis=1))
    rows = [("numpy.argsort of the matrix of mars", base, 0)]
    everything = [protocol.name for protocol in protocols.resolve("all")]
    for label, names in (("mars", ["mars"]), ("all protocols of MARS", everything)):
        work = partial(_score, search, search.distances(), names)
        rows.append((label, _seconds(work), _bytes(work)))
    if flags.rerank:
        features = np.random.default_rng(1).normal(size=(_QUERIES + len(gallery), 2048)).astype(np.float32)
        began = time.perf_counter()
        metrics.rerank(features[:_QUERIES], features[_QUERIES:])
        rows.append(("re-ranking, 2048 dimensions", time.perf_counter() - began,
                     _bytes(lambda: metrics.rerank(features[:_QUERIES], features[_QUERIES:]))))
    found = [{"what": what, "seconds": seconds, "ratio": seconds / base, "bytes": size}
             for what, seconds, size in rows]
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    show(f"{_QUERIES:,} queries, gallery of {len(gallery):,} (mars) to {len(search.pids):,}",
         ["what", "seconds", "of one argsort", "GiB"],
         [[row["what"], f"{row['seconds']:.3f}", f"{row['ratio']:.2f}", f"{row['bytes'] / 2**30:.2f}"]
          for row in found])


def _search(info: Path | None) -> Search:
    rng = np.random.default_rng(0)
    if info:
        metadata = mars.read_metadata(info)
        query = np.zeros(len(metadata.test), bool)
        query[metadata.query] = True
        order = np.concatenate([np.flatnonzero(query), np.flatnonzero(~query)])
        pids, camids, tracks = metadata.test[order, 2], metadata.test[order, 3], order
    else:
        people = np.r_[rng.integers(1, _PEOPLE + 1, _QUERIES + _OTHERS), np.zeros(_DISTRACTORS, int),
                       np.full(_JUNK, -1)]
        pids = np.r_[people[:_QUERIES], rng.permutation(people[_QUERIES:])]
        camids, tracks = rng.integers(1, _CAMERAS + 1, len(pids)), np.arange(len(pids))
    centres = rng.normal(size=(pids.max() + 2, _DIMENSIONS))
    features = (centres[pids + 1] + 1.5 * rng.normal(size=(len(pids), _DIMENSIONS))).astype(np.float32)
    about = About("drawn", "", False, "none", 0, "none", "none")
    return Search(features, _QUERIES, tracks.astype(str), tracks, pids, camids, about)


def _score(search: Search, distances: np.ndarray, names: list[str]) -> None:
    q = search.num_queries
    metrics.score_all(distances, search.pids[:q], search.pids, search.camids[:q], search.camids, names,
                      galleries={name: search.gallery(protocols.get(name)) for name in names})


def _seconds(work: Callable) -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _bytes(work: Callable) -> int:
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    main()
