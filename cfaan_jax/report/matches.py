"""A page of ranked tracklets for people of whom nobody knows who they are, or whose tracks were cut into halves.

Halves of tracks know one right answer each, but not every wrong one: who leaves and comes back has several tracks. Two
tracks that were in view at the same time are two people for certain.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report.frames import TrackletFrames, strip
from cfaan_jax.report.listed import near, near_name
from cfaan_jax.report.page import pages

PAGE = "matches.html"
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


class Times(NamedTuple):
    """Who was in view when, in one video; bool [Q, N] for every query and tracklet.

    Attributes:
        elsewhere: the tracklet itself overlaps the query in time: nobody is in two places at once.
        together: all that is known of its identity and all that is known of the query's overlap.
    """

    elsewhere: np.ndarray
    together: np.ndarray


def view_times(found: Search, records: str | Path) -> Times | None:
    """What was in view at the same time; None where frames are not named as those of videos."""
    frames, spans = TrackletFrames(found, records), []
    for row, pid in enumerate(found.pids.tolist()):
        sources = _record(frames, row).sources
        named = [_FRAME.fullmatch(source) for source in (sources[0], sources[-1])]
        if None in named:
            return None
        spans.append(_Span(pid, named[0][1], int(named[0][2]), int(named[1][2])))
    people: dict[tuple[int, str], list[_Span]] = defaultdict(list)
    for span in spans:
        people[span.pid, span.video].append(span)
    whole = [_Span(*person, min(part.first for part in people[person]), max(part.last for part in people[person]))
             for person in ((span.pid, span.video) for span in spans)]
    return Times(_overlap(spans, found.num_queries), _overlap(whole, found.num_queries))


class _Span(NamedTuple):
    pid: int
    video: str
    first: int
    last: int


def _overlap(spans: Sequence[_Span], num_queries: int) -> np.ndarray:
    _, videos, first, last = (np.array(each) for each in zip(*spans, strict=True))
    return ((videos[:num_queries, None] == videos) & (first[:num_queries, None] <= last)
            & (first <= last[:num_queries, None]))


def first_among(found: Search, others: np.ndarray) -> int:
    """How many queries find their own identity first when the gallery holds that and `others`, bool [Q, N], alone."""
    q, distances = found.num_queries, found.distances()
    gallery = np.arange(len(found.pids)) >= q
    right = (found.pids[:q, None] == found.pids) & gallery
    nearest = np.where(right | others & gallery, distances, np.inf).argmin(axis=1)
    return int(right[np.arange(q), nearest].sum())


def write(found: Search, score: Score | None, times: Times | None, records: str | Path, folder: Path) -> Path:
    """Writes a page with every query and its nearest tracklets, the most similar pairs first.

    Tracklets that were in view at the same time as the query are not among them.

    Args:
        found: features and labels; the queries are of one camera, the gallery is of others.
        score: where identities are known; None: they are not.
        times: what `view_times` gave.
        records: that were searched.
        folder: where; an older page there is replaced.
    Returns:
        The page.
    Raises:
        InputError: something else lies there.
    """
    frames, mutual = TrackletFrames(found, records), both_ways(found)
    lists = _nearest(found, times)
    order = sorted(range(found.num_queries), key=lambda query: lists[query][0].distance if lists[query] else np.inf)

    def kind(query: int, answer: Answer) -> str:
        if not score:
            return "both" if (query, answer.row) in mutual else "other"
        doubtful = times is not None and not times.together[query, answer.row]
        return "perhaps" if answer.kind == "wrong" and doubtful else answer.kind

    with pages(folder, {PAGE: "Who appears again"}, found.about.line()) as site:
        shown = {row: _described(frames, row) | {"strip": strip(site, row, frames), "camera": int(found.camids[row])}
                 for row in sorted({*order, *(answer.row for answers in lists for answer in answers)})}
        queries = [{"row": query, "answers": [{"row": answer.row, "kind": kind(query, answer),
                                               "near": near(found, answer)} for answer in lists[query]]}
                   for query in order]
        site.page(PAGE, score=score, first=score and int((score.first == 1).sum()), queries=queries, tracklets=shown,
                  possible=score and times and first_among(found, ~times.elsewhere),
                  among=score and times and first_among(found, times.together), near_name=near_name(found))
    return folder / PAGE


def _nearest(found: Search, times: Times | None) -> list[list[Answer]]:
    """Ranked lists of all queries, without those who were elsewhere."""
    impossible = 0 if times is None else int(times.elsewhere.sum(axis=1).max())
    lists = found.nearest(range(found.num_queries), protocols.get("mars"), count=_ANSWERS + impossible)
    return [[answer for answer in answers if times is None or not times.elsewhere[query, answer.row]][:_ANSWERS]
            for query, answers in enumerate(lists)]


def _described(frames: TrackletFrames, row: int) -> dict:
    record = _record(frames, row)
    return {"name": record.name, "frames": len(record.frames), "first": record.sources[0], "last": record.sources[-1]}


def _record(frames: TrackletFrames, row: int) -> TrackletRecord:
    records, position = frames.place(row)
    return records.record(position)
