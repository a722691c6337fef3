"""Every query, and every pair of cameras, as CSV files."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from cfaan_jax.metrics import Score
from cfaan_jax.metrics.cameras import CameraPairs
from cfaan_jax.metrics.search import Search
from cfaan_jax.runtime.files import write_atomic


def write_queries(search: Search, scores: Mapping[str, Score], path: Path) -> None:
    """Writes average precision, inverse negative penalty and first right rank of every valid query, by protocol."""
    rows = [[name, search.names[query], search.pids[query], search.camids[query], f"{ap:.6f}", f"{inp:.6f}", first]
            for name, score in scores.items()
            for query, ap, inp, first in zip(score.valid, score.ap, score.inp, score.first, strict=True)]
    header = ["protocol", "query", "pid", "camid", "ap", "inp", "first_right_rank"]
    write_atomic(path, as_csv([header, *rows]))


def write_cameras(pairs: CameraPairs, path: Path) -> None:
    """Writes mAP and number of valid queries of every pair of cameras with valid queries."""
    rows = [[camera, other, f"{pairs.mAP[i, j]:.6f}", pairs.queries[i, j]]
            for i, camera in enumerate(pairs.cameras) for j, other in enumerate(pairs.cameras) if pairs.queries[i, j]]
    write_atomic(path, as_csv([["query_camera", "gallery_camera", "mAP", "valid_queries"], *rows]))


def as_csv(lines: Iterable[Iterable]) -> str:
    """CSV, the header first."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
