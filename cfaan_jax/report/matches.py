"""A page of ranked tracklets for people of whom nobody knows who they are, or whose tracks were cut into halves."""

from pathlib import Path

import numpy as np

from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report.frames import TrackletFrames, strip
from cfaan_jax.report.listed import near, near_name
from cfaan_jax.report.page import pages

_PAGE = "matches.html"
_ANSWERS = 10


def both_ways(found: Search) -> set[tuple[int, int]]:
    """Pairs (query, gallery) of rows, each the nearest to the other among the tracklets of its camera."""
    gallery = np.arange(found.num_queries, len(found.pids))
    distances, pairs = found.distances()[:, gallery], set()
    for camera in np.unique(found.camids[gallery]):
        own = np.flatnonzero(found.camids[gallery] == camera)
        nearest, back = own[distances[:, own].argmin(axis=1)], distances.argmin(axis=0)
        pairs |= {(query, int(gallery[row])) for query, row in enumerate(nearest.tolist()) if back[row] == query}
    return pairs


def write(found: Search, score: Score | None, records: str | Path, folder: Path) -> Path:
    """Writes a page with every query and its nearest tracklets, the most similar pairs first.

    Args:
        found: features and labels; the queries are of one camera, the gallery is of others.
        score: where identities are known; None: they are not.
        records: that were searched.
        folder: where; an older page there is replaced.
    Returns:
        The page.
    Raises:
        InputError: something else lies there.
    """
    frames, mutual = TrackletFrames(found, records), both_ways(found)
    lists = found.nearest(range(found.num_queries), protocols.get("mars"), count=_ANSWERS)
    order = sorted(range(found.num_queries), key=lambda query: lists[query][0].distance)

    def kind(query: int, answer: Answer) -> str:
        return answer.kind if score else "both" if (query, answer.row) in mutual else "other"

    with pages(folder, {_PAGE: "Who appears again"}, found.about.line()) as site:
        shown = {row: _described(frames, row) | {"strip": strip(site, row, frames), "camera": int(found.camids[row])}
                 for row in sorted({*order, *(answer.row for answers in lists for answer in answers)})}
        queries = [{"row": query, "answers": [{"row": answer.row, "kind": kind(query, answer),
                                               "near": near(found, answer)} for answer in lists[query]]}
                   for query in order]
        site.page(_PAGE, score=score, first=score and int((score.first == 1).sum()), queries=queries,
                  tracklets=shown, near_name=near_name(found))
    return folder / _PAGE


def _described(frames: TrackletFrames, row: int) -> dict:
    records, position = frames.place(row)
    record = records.record(position)
    return {"name": record.name, "frames": len(record.frames), "first": record.sources[0], "last": record.sources[-1]}
