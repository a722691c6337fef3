"""Scoring and re-ranking at the size of MARS: time against one numpy.argsort of the same matrix, and memory.

    python -m benchmarks.scoring --out=scoring.json [--mars_info=FOLDER] [--rerank]

Identities and cameras are those of MARS (`--mars_info`: the folder with its .mat files), or drawn in its numbers.
Features are drawn. Times are the best of three, in one process; memory is what NumPy holds at most beside the
distances.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import allocated, command, fewest_seconds, mars_sizes, seconds
from cfaan_jax import metrics
from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.runtime.command import run_command
from cfaan_jax.runtime.text_tables import show
from data_prep.datasets import mars

_DIMENSIONS = 128


def main(arguments: list[str] | None = None) -> None:
    parser = command("scoring", __doc__)
    parser.add_argument("--mars_info", type=Path, help="folder with MARS's .mat files; unset: labels are drawn")
    parser.add_argument("--rerank", action="store_true", help="time re-ranking as well, which takes minutes")
    flags = parser.parse_args(arguments)
    search = drawn_search(mars_sizes.metadata(flags.mars_info))
    queries, gallery = search.num_queries, search.gallery(protocols.get("mars"))
    matrix = search.distances()[:, gallery].copy()
    base = fewest_seconds(lambda: np.argsort(matrix, axis=1))
    rows = [("numpy.argsort of the matrix of mars", base, 0)]
    everything = [protocol.name for protocol in protocols.resolve("all")]
    for label, names in (("mars", ["mars"]), ("all protocols of MARS", everything)):
        work = partial(_score, search, search.distances(), names)
        rows.append((label, fewest_seconds(work), allocated(work)))
    if flags.rerank:
        features = np.random.default_rng(1).normal(size=(queries + len(gallery), 2048)).astype(np.float32)
        work = partial(metrics.rerank, features[:queries], features[queries:])
        rows.append(("re-ranking, 2048 dimensions", seconds(work), allocated(work)))
    found = [{"what": what, "seconds": took, "ratio": took / base, "bytes": size} for what, took, size in rows]
    flags.out.write_text(json.dumps(found, indent=2) + "\n")
    show(f"{queries:,} queries, gallery of {len(gallery):,} (mars) to {len(search.pids):,}",
         ["what", "seconds", "of one argsort", "GiB"],
         [[row["what"], f"{row['seconds']:.3f}", f"{row['ratio']:.2f}", f"{row['bytes'] / 2**30:.2f}"]
          for row in found])


def drawn_search(found: mars.Metadata, dimensions: int = _DIMENSIONS) -> Search:
    """A search of tracklets of these identities and cameras, the queries first; features are drawn."""
    rng, rows = np.random.default_rng(0), mars_sizes.queries_first(found)
    pids, camids = found.test[rows, 2], found.test[rows, 3]
    centres = rng.normal(size=(pids.max() + 2, dimensions))
    features = (centres[pids + 1] + 1.5 * rng.normal(size=(len(pids), dimensions))).astype(np.float32)
    about = About("drawn", "", False, "none", 0, "none", "none")
    return Search(features, len(found.query), rows.astype(str), rows, pids, camids, about)


def _score(search: Search, distances: np.ndarray, names: list[str]) -> None:
    q = search.num_queries
    metrics.score_all(distances, search.pids[:q], search.pids, search.camids[:q], search.camids, names,
                      galleries={name: search.gallery(protocols.get(name)) for name in names})


if __name__ == "__main__":
    run_command(main)
