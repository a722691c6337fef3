"""What lies behind the means: every query, and every pair of cameras, as CSV files."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from cfaan_jax.metrics import Score
from cfaan_jax.metrics.cameras import CameraPairs
from cfaan_jax.metrics.search import Search
from cfaan_jax.runtime.files import write_atomic


def queries(found: Search, scores: Mapping[str, Score], path: Path) -> None:
    """Writes average precision, inverse negative penalty and first right rank of every valid query, by protocol."""
    rows = []
    for name, score in scores.items():
        for query, ap, inp, first in zip(score.valid, score.ap, score.inp, score.first, strict=True):
            rows.append([name, found.names[query], found.pids[query], found.camids[query], f"{ap:.6f}", f"{inp:.6f}",
                         first])
    _write(path, ["protocol", "query", "pid", "camid", "ap", "inp", "first_right_rank"], rows)


def cameras(pairs: CameraPairs, path: Path) -> None:
    """Writes mAP and number of valid queries for every pair of cameras that has any."""
    rows = [[camera, other, f"{pairs.mAP[i, j]:.6f}", pairs.queries[i, j]]
            for i, camera in enumerate(pairs.cameras) for j, other in enumerate(pairs.cameras) if pairs.queries[i, j]]
    _write(path, ["query_camera", "gallery_camera", "mAP", "valid_queries"], rows)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
