"""What an evaluation leaves in `<workdir>/report`: curves, camera pairs, ranked lists, and the figures as CSV files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cfaan_jax.data.loader import read_clip
from cfaan_jax.data.records import RecordSet
from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report import curves, details
from cfaan_jax.report.ranked_lists import Entry, RankedList, draw

_LISTS, _ANSWERS, _QUERY_FRAMES = 6, 10, 3


def write(found: Search, scores: Mapping[str, Score], config: ConfigDict, workdir: Path) -> None:
    """Draws CMC curves, camera pairs, ranked lists of the worst and of typical queries, and the training curves if any.

    Args:
        found: features and labels.
        scores: by protocol; camera pairs and ranked lists are those of the first one.
        config: `config.data.records` holds the frames, `config.eval.corrections` the corrected labels.
        workdir: its metrics.csv is drawn; the pictures go to its folder report.
    """
    folder, tag = workdir / "report", f"{found.about.weights}-{found.about.clips}"
    curves.cmc(scores, folder / f"cmc-{tag}.png", found.about.line())
    if (workdir / "metrics.csv").exists():
        curves.training(workdir / "metrics.csv", folder / "training.png")
    details.queries(found, scores, folder / f"queries-{tag}.csv")
    name, score = next(iter(scores.items()))
    pairs = found.camera_pairs(protocols.get(name), config.eval.corrections)
    details.cameras(pairs, folder / f"cameras-{tag}.csv")
    curves.cameras(pairs, folder / f"cameras-{tag}.png", f"mAP by pair of cameras under {name}\n{found.about.line()}")
    by_precision = np.argsort(score.ap, kind="stable")
    middle = max(0, (len(by_precision) - _LISTS) // 2)
    for kind, chosen in (("worst", by_precision[:_LISTS]), ("typical", by_precision[middle:middle + _LISTS])):
        title = (f"{kind} queries by average precision under {name}: mAP {score.mAP:.1%}, gallery "
                 f"{score.gallery_size:,}, {score.num_valid:,} valid queries\n{found.about.line()}")
        draw(_lists(found, name, score, chosen, config), folder / f"ranked-{kind}-{tag}.png", title)


def _lists(found: Search, protocol: str, score: Score, chosen: np.ndarray, config: ConfigDict) -> list[RankedList]:
    frames = _Frames(found, config.data.records)
    queries = score.valid[chosen].tolist()
    answers = found.nearest(queries, protocols.get(protocol), config.eval.corrections, _ANSWERS)
    lists = []
    for query, precision, answer in zip(queries, score.ap[chosen], answers, strict=True):
        title = f"{found.names[query]}: identity {found.pids[query]}, camera {found.camids[query]}, AP {precision:.1%}"
        lists.append(RankedList(title, [Entry(frame, (), "query") for frame in frames.of(query, _QUERY_FRAMES)], [
            Entry(frames.of(each.row, 1)[0], _caption(found, each), each.kind) for each in answer]))
    return lists


def _caption(found: Search, answer: Answer) -> tuple[str, str]:
    pid = int(found.pids[answer.row])
    who = {protocols.JUNK: "junk", protocols.DISTRACTOR: "distractor"}.get(pid, f"id {pid}")
    near = (f"1 - cos {max(0.0, 1 + answer.distance):.3f}" if found.about.distance == "cosine"
            else f"d² {max(0.0, answer.distance):.1f}")
    return f"{who}, cam {found.camids[answer.row]}", near


class _Frames:
    """Frames of the tracklets of a search, as stored."""

    def __init__(self, found: Search, directory: str):
        self._queries = found.num_queries
        self._query, self._gallery = (RecordSet.open(directory, split) for split in ("query", "gallery"))

    def of(self, row: int, count: int) -> Sequence[np.ndarray]:
        """`count` frames, uint8 `[h, w, 3]` RGB each, from the middles of equal parts of the tracklet."""
        records, position = (self._query, row) if row < self._queries else (self._gallery, row - self._queries)
        indices = int(records.lengths[position]) * np.arange(1, 2 * count, 2) // (2 * count)
        sizes = records.image_sizes(position)
        return [read_clip(records, position, indices[i:i + 1], tuple(sizes[k]))[0][0] for i, k in enumerate(indices)]
