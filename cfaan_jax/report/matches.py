"""A page of ranked tracklets for people without known identities, or whose tracks were cut into halves.

A half of a track has one known right answer, but not every other answer is wrong: who leaves and comes back has several
tracks. Two co-visible tracks, in view at the same time, show two people for certain.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report.frames import TrackletFrames, write_strip
from cfaan_jax.report.page import pages
from cfaan_jax.report.ranked_queries import distance_name, distance_text

PAGE = "matches.html"
_ANSWERS = 10
_FRAME = re.compile(r"(.*)#(\d+)")  # the name of a frame of a video


def mutual_neighbours(search: Search) -> set[tuple[int, int]]:
    """Mutual nearest neighbours: pairs (query row, gallery row), nearest to each other in the gallery row's camera."""
    gallery = np.arange(search.num_queries, len(search.pids))
    distances, pairs = search.distances()[:, gallery], set()
    nearest_query = distances.argmin(axis=0)
    for camera in np.unique(search.camids[gallery]):
        columns = np.flatnonzero(search.camids[gallery] == camera)
        nearest = columns[distances[:, columns].argmin(axis=1)].tolist()
        pairs |= {(query, int(gallery[column])) for query, column in enumerate(nearest)
                  if nearest_query[column] == query}
    return pairs


class CoVisible(NamedTuple):
    """What was in view at the same time, in one video; bool [Q, N] for every query and tracklet."""

    tracklets: np.ndarray  # the tracklet overlaps the query in time, so it shows another person
    identities: np.ndarray  # some tracklet of its identity overlaps some tracklet of the query's identity


def co_visible(search: Search, records: str | Path) -> CoVisible | None:
    """What was in view at the same time; None where frames are not named as frames of a video."""
    frames, spans, queries = TrackletFrames(search, records), [], search.num_queries
    for row in range(len(search.pids)):
        sources = frames.record(row).sources
        first, last = _FRAME.fullmatch(sources[0]), _FRAME.fullmatch(sources[-1])
        if first is None or last is None:
            return None
        spans.append((first[1], int(first[2]), int(last[2])))
    videos, first, last = (np.array(column) for column in zip(*spans, strict=True))
    # From the first to the last frame of an identity in a video.
    _, group = np.unique([search.pids.astype(str), videos], axis=1, return_inverse=True)
    starts, ends = np.full(len(group), first.max()), np.zeros(len(group), int)
    np.minimum.at(starts, group, first)
    np.maximum.at(ends, group, last)
    return CoVisible(_overlap(videos, first, last, queries), _overlap(videos, starts[group], ends[group], queries))


def _overlap(videos: np.ndarray, first: np.ndarray, last: np.ndarray, queries: int) -> np.ndarray:
    return ((videos[:queries, None] == videos) & (first[:queries, None] <= last) & (first <= last[:queries, None]))


def rank1_queries(search: Search, others: np.ndarray) -> int:
    """Number of queries with a right answer at rank 1 in a gallery of right answers and `others`, bool [Q, N]."""
    q, distances = search.num_queries, search.distances()
    gallery = np.arange(len(search.pids)) >= q
    right = (search.pids[:q, None] == search.pids) & gallery
    nearest = np.where(right | others & gallery, distances, np.inf).argmin(axis=1)
    return int(right[np.arange(q), nearest].sum())


def write(search: Search, score: Score | None, visible: CoVisible | None, records: str | Path, folder: Path) -> Path:
    """Writes a page with every query and its nearest tracklets, the most similar pairs first, without co-visible ones.

    The queries are of one camera, the gallery is of others. `score` is None where identities are unknown, `visible` is
    of `co_visible`. An older page in `folder` is replaced; something else there is an InputError.
    """
    frames, pairs = TrackletFrames(search, records), mutual_neighbours(search)
    lists = _ranked_lists(search, visible)
    order = sorted(range(search.num_queries), key=lambda query: lists[query][0].distance if lists[query] else np.inf)

    def kind(query: int, answer: Answer) -> str:
        if not score:
            return "mutual" if (query, answer.row) in pairs else "other"
        unsure = visible is not None and not visible.identities[query, answer.row]
        return "unsure" if answer.kind == "wrong" and unsure else answer.kind

    with pages(folder, {PAGE: "Who appears again"}, search.about.line()) as site:
        shown = {row: _description(frames, row) | {"strip": write_strip(site, row, frames),
                                                   "camera": int(search.camids[row])}
                 for row in sorted({*order, *(answer.row for answers in lists for answer in answers)})}
        queries = [{"row": query, "answers": [{"row": answer.row, "kind": kind(query, answer),
                                               "distance": distance_text(search, answer)} for answer in lists[query]]}
                   for query in order]
        counts = {}
        if score:
            counts["rank1"] = int((score.first == 1).sum())
            if visible is not None:
                counts["rank1_possible"] = rank1_queries(search, ~visible.tracklets)
                counts["rank1_co_visible"] = rank1_queries(search, visible.identities)
        site.page(PAGE, score=score, counts=counts, queries=queries, tracklets=shown,
                  distance_name=distance_name(search))
    return folder / PAGE


def _ranked_lists(search: Search, visible: CoVisible | None) -> list[list[Answer]]:
    """Ranked lists of all queries, without co-visible tracklets."""
    most = 0 if visible is None else int(visible.tracklets.sum(axis=1).max())
    lists = search.nearest(range(search.num_queries), protocols.get("mars"), count=_ANSWERS + most)
    return [[answer for answer in answers if visible is None or not visible.tracklets[query, answer.row]][:_ANSWERS]
            for query, answers in enumerate(lists)]


def _description(frames: TrackletFrames, row: int) -> dict:
    record = frames.record(row)
    return {"name": record.name, "frames": len(record.frames), "first": record.sources[0], "last": record.sources[-1]}
