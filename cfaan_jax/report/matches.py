"""A page of ranked tracklets for people of whom nobody knows who they are, or whose tracks were cut into halves.

Halves of tracks know one right answer each, but not every wrong one: who leaves and comes back has several tracks. Two
tracks that were in view at the same time are two people for certain.
"""

import re
from pathlib import Path

import numpy as np

from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report.frames import TrackletFrames, strip
from cfaan_jax.report.listed import near, near_name
from cfaan_jax.report.page import pages

_PAGE = "matches.html"
_ANSWERS = 10
_FRAME = re.compile(r"(.*)#(\d+)")  # the name of a frame of a video


def both_ways(found: Search) -> set[tuple[int, int]]:
    """Pairs (query, gallery) of rows, each the nearest to the other among the tracklets of its camera."""
    gallery = np.arange(found.num_queries, len(found.pids))
    distances, pairs = found.distances()[:, gallery], set()
    for camera in np.unique(found.camids[gallery]):
        own = np.flatnonzero(found.camids[gallery] == camera)
        nearest, back = own[distances[:, own].argmin(axis=1)], distances.argmin(axis=0)
        pairs |= {(query, int(gallery[row])) for query, row in enumerate(nearest.tolist()) if back[row] == query}
    return pairs


def seen_together(found: Search, records: str | Path) -> np.ndarray | None:
    """Whether the identity of each query and that of each tracklet were in view at the same time, bool [Q, N].

    None where frames are not named as those of videos.
    """
    frames, spans = TrackletFrames(found, records), []
    for row, pid in enumerate(found.pids.tolist()):
        sources = _record(frames, row).sources
        named = [_FRAME.fullmatch(source) for source in (sources[0], sources[-1])]
        if None in named:
            return None
        spans.append((pid, named[0][1], int(named[0][2]), int(named[1][2])))
    videos = np.array([video for _, video, _, _ in spans])
    first, last = (np.array([pick(span[end] for span in spans if span[:2] == own[:2]) for own in spans])
                   for pick, end in ((min, 2), (max, 3)))
    q = found.num_queries
    return (videos[:q, None] == videos) & (first[:q, None] <= last) & (first <= last[:q, None])


def first_among(found: Search, others: np.ndarray) -> int:
    """How many queries find their own identity first when the gallery holds that and `others`, bool [Q, N], alone."""
    q, distances = found.num_queries, found.distances()
    gallery = np.arange(len(found.pids)) >= q
    right = (found.pids[:q, None] == found.pids) & gallery
    nearest = np.where(right | others & gallery, distances, np.inf).argmin(axis=1)
    return int(right[np.arange(q), nearest].sum())


def write(found: Search, score: Score | None, together: np.ndarray | None, records: str | Path, folder: Path) -> Path:
    """Writes a page with every query and its nearest tracklets, the most similar pairs first.

    Args:
        found: features and labels; the queries are of one camera, the gallery is of others.
        score: where identities are known; None: they are not.
        together: what `seen_together` gave.
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
        if not score:
            return "both" if (query, answer.row) in mutual else "other"
        doubtful = together is not None and not together[query, answer.row]
        return "perhaps" if answer.kind == "wrong" and doubtful else answer.kind

    with pages(folder, {_PAGE: "Who appears again"}, found.about.line()) as site:
        shown = {row: _described(frames, row) | {"strip": strip(site, row, frames), "camera": int(found.camids[row])}
                 for row in sorted({*order, *(answer.row for answers in lists for answer in answers)})}
        queries = [{"row": query, "answers": [{"row": answer.row, "kind": kind(query, answer),
                                               "near": near(found, answer)} for answer in lists[query]]}
                   for query in order]
        site.page(_PAGE, score=score, first=score and int((score.first == 1).sum()), queries=queries, tracklets=shown,
                  among=None if together is None else first_among(found, together), near_name=near_name(found))
    return folder / _PAGE


def _described(frames: TrackletFrames, row: int) -> dict:
    record = _record(frames, row)
    return {"name": record.name, "frames": len(record.frames), "first": record.sources[0], "last": record.sources[-1]}


def _record(frames: TrackletFrames, row: int) -> TrackletRecord:
    records, position = frames.place(row)
    return records.record(position)
