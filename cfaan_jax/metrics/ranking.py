"""Ranks of the relevant gallery rows of every query, and what follows from them: CMC and average precision.

Nothing here sorts indices. A relevant row's rank is one plus the number of rows before it, which is found by binary
search in the sorted distances; rows that a query ignores are subtracted. Equal distances rank as in a stable
ascending sort: the row that comes first in the gallery is first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.metrics.protocols import DISTRACTOR, JUNK

_BLOCK_BYTES = 1 << 25
_NONE = np.zeros(0, np.intp)


@dataclass(frozen=True)
class Identities:
    """Who is seen where, int [Q] and [G]; `second` is the other identity of an ambiguous tracklet, otherwise its own.

    The original rules (`revised` false) do not look at the second identities.
    """

    q_pids: np.ndarray
    g_pids: np.ndarray
    q_camids: np.ndarray
    g_camids: np.ndarray
    q_second: np.ndarray
    g_second: np.ndarray
    revised: bool

    @cached_property
    def _rows_of_identity(self) -> dict[int, np.ndarray]:
        """Gallery rows of every person, ascending; junk and distractors are nobody."""
        pids, rows = self.g_pids, np.arange(len(self.g_pids))
        if self.revised:
            ambiguous = np.flatnonzero(self.g_second != self.g_pids)
            pids, rows = np.concatenate([pids, self.g_second[ambiguous]]), np.concatenate([rows, ambiguous])
        person = (pids != JUNK) & (pids != DISTRACTOR)
        return _grouped(pids[person], rows[person])

    @cached_property
    def _distractors_of_camera(self) -> dict[int, np.ndarray]:
        rows = np.flatnonzero(self.g_pids == DISTRACTOR)
        return _grouped(self.g_camids[rows], rows)

    def of_query(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Gallery rows that are right answers to a query, and rows that it ignores beside junk; no row twice."""
        camera, pid, second = self.q_camids[query], self.q_pids[query], self.q_second[query]
        same = self._rows_of_identity.get(pid, _NONE)
        if self.revised and second != pid:
            same = np.union1d(same, self._rows_of_identity.get(second, _NONE))
        here = self.g_camids[same] == camera
        relevant, ignored = same[~here], same[here]
        if self.revised:
            ignored = ignored[self.g_pids[ignored] != DISTRACTOR]
            ignored = np.concatenate([ignored, self._distractors_of_camera.get(camera, _NONE)])
        return relevant, ignored


def _grouped(keys: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    bounds = [*starts.tolist(), len(keys)]
    return {value: np.unique(rows[order[bounds[i]:bounds[i + 1]]]) for i, value in enumerate(values.tolist())}


@dataclass(frozen=True)
class Ranks:
    """One entry for every (query, right answer): `query` int [M], `rank` int [M] from 1; sorted by query, then rank."""

    query: np.ndarray
    rank: np.ndarray

    @cached_property
    def valid(self) -> np.ndarray:
        """The queries that have a right answer at all, int [V]."""
        return np.unique(self.query)

    @cached_property
    def first(self) -> np.ndarray:
        """The rank of each valid query's first right answer, int [V]."""
        return self.rank[self._starts]

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.flatnonzero(np.r_[True, self.query[1:] != self.query[:-1]])

    def cmc(self, max_rank: int) -> np.ndarray:
        """Share of the valid queries whose first right answer is at rank k or better, k = 1..max_rank; float64."""
        first = self.first
        return np.bincount(first[first <= max_rank] - 1, minlength=max_rank).cumsum() / len(first)

    def inverse_penalty(self) -> np.ndarray:
        """Right answers of every valid query divided by the rank of its last one (Ye et al., TPAMI 2021), [V]."""
        last = np.r_[self._starts[1:], len(self.rank)] - 1
        return (last - self._starts + 1) / self.rank[last]

    def average_precision(self, trapezoid: bool = False) -> np.ndarray:
        """Average precision of every valid query, float64 [V].

        Mean over the right answers of the precision at their ranks; or, as in the MATLAB package of MARS, of the
        mean of that and the precision one rank before it, which starts at 1.
        """
        counts = np.diff(np.r_[self._starts, len(self.rank)])
        found = np.arange(1, len(self.rank) + 1) - np.repeat(self._starts, counts)
        precision = found / self.rank
        if trapezoid:
            before = np.where(self.rank == 1, 1.0, (found - 1) / np.maximum(self.rank - 1, 1))
            precision = (precision + before) / 2
        return np.add.reduceat(precision, self._starts) / counts


@dataclass(frozen=True)
class View:
    """How one protocol looks at the matrix: whom it takes each row for, and where each column stands in its gallery.

    `place` int [N]: place of a column in the gallery (it decides between equal distances), -1 = not in it.
    """

    identities: Identities
    place: np.ndarray

    @classmethod
    def of(cls, identities: Identities, rows: np.ndarray) -> "View":
        """A gallery of these columns, int [G], in this order."""
        place = np.full(len(identities.g_pids), -1)
        place[rows] = np.arange(len(rows))
        return cls(identities, place)


@runtime_checkable
class Strips(Protocol):
    """A matrix of distances too large to exist: `big_gallery.CosineDistances`."""

    shape: tuple[int, int]

    def strips(self) -> Iterator[np.ndarray]:
        """Its rows in order, some at a time; what was given before may be overwritten."""


def rank(distmat: np.ndarray | Strips, views: Sequence[View]) -> list[Ranks]:
    """Ranks the right answers of every query, for all views from one sort of the distances.

    Args:
        distmat: [Q, N] distances, smaller is nearer, any real dtype, whole or in strips; NaN is an `InputError`.
        views: what to rank; views that share an `Identities` object share its work.
    """
    places = np.stack([np.where(view.identities.g_pids == JUNK, -1, view.place) for view in views])
    # Columns in the same galleries are sorted together; what lies below a distance in a gallery is a sum over groups.
    patterns, pattern_of = np.unique(places >= 0, axis=1, return_inverse=True)
    groups = [np.flatnonzero(pattern_of.reshape(-1) == i) for i in range(patterns.shape[1])]
    used = np.flatnonzero(patterns.any(axis=0))
    counters = _counters(views, places, patterns[:, used])

    first = 0
    for strip in distmat.strips() if isinstance(distmat, Strips) else (distmat,):
        _count(first, strip, [groups[i] for i in used], counters)
        first += len(strip)

    ranks = {number: found for counter in counters for number, found in counter.ranks()}
    return [ranks[number] for number in range(len(views))]


def _count(first: int, distmat: np.ndarray, groups: list[np.ndarray], counters: list["_Counter"]) -> None:
    """Counts for the queries from `first` on, whose distances these are; `groups` are columns to sort together."""
    rows = max(1, _BLOCK_BYTES // (distmat.shape[1] * distmat.itemsize))
    for start in range(0, len(distmat), rows):
        block = distmat[start:start + rows]
        bad = np.isnan(block).any(axis=1)
        if bad.any():
            raise InputError(f"distances of query {first + start + int(bad.argmax())} hold NaN; look for NaN in its "
                             "feature or in the gallery's features")
        in_order = [np.sort(block if len(group) == block.shape[1] else block[:, group], axis=1) for group in groups]
        for i, distances in enumerate(block):
            sorted_groups = [group[i] for group in in_order]
            for counter in counters:
                counter.count(first + start + i, distances, sorted_groups)


def _counters(views: Sequence[View], places: np.ndarray, member: np.ndarray) -> list["_Counter"]:
    sharing: dict[int, list[int]] = {}
    for number, view in enumerate(views):
        sharing.setdefault(id(view.identities), []).append(number)
    return [_Counter(views[numbers[0]].identities, numbers, places[numbers], member[numbers])
            for numbers in sharing.values()]


class _Counter:
    """Counts what comes before each right answer, for the V views that share one `Identities`.

    Args:
        numbers: which views these are.
        places: int [V, N], places of the columns in the galleries, -1 where not in one or junk.
        member: bool [V, groups], which groups of columns make up a gallery.
    """

    def __init__(self, identities: Identities, numbers: list[int], places: np.ndarray, member: np.ndarray):
        self._identities, self._numbers, self._places = identities, numbers, places
        self._member = member.astype(np.int64)
        self._inside = np.ascontiguousarray((places >= 0).T, np.float32)
        self._found: list[tuple[int, np.ndarray, np.ndarray]] = []

    def count(self, query: int, distances: np.ndarray, sorted_groups: list[np.ndarray]) -> None:
        """Takes one query's distances [N], and the same sorted within each group of columns."""
        relevant, ignored = self._identities.of_query(query)
        if len(relevant) == 0:
            return
        values = distances[relevant]
        shape = (len(sorted_groups), len(values))  # a gallery of junk alone has no group
        below = np.array([group.searchsorted(values, "left") for group in sorted_groups], np.int64).reshape(shape)
        upto = np.array([group.searchsorted(values, "right") for group in sorted_groups], np.int64).reshape(shape)
        equal = upto - below
        before = self._member @ below
        if len(ignored):
            nearer = (distances[ignored] < values[:, None]).astype(np.float32)
            before -= (nearer @ self._inside[ignored]).T.astype(np.int64)
        counted = np.ones(len(distances), bool)
        counted[ignored] = False
        for j in np.flatnonzero(equal.sum(axis=0) > 1):
            tied = np.flatnonzero((distances == values[j]) & counted)
            place = self._places[:, tied]
            before[:, j] += ((place >= 0) & (place < self._places[:, relevant[j], None])).sum(axis=1)
        self._found.append((query, relevant, before))

    def ranks(self) -> list[tuple[int, Ranks]]:
        """(number, ranks) of each view."""
        if not self._found:
            return [(number, Ranks(_NONE, _NONE)) for number in self._numbers]
        query = np.repeat([query for query, _, _ in self._found], [len(relevant) for _, relevant, _ in self._found])
        inside = self._places[:, np.concatenate([relevant for _, relevant, _ in self._found])] >= 0
        rank_of = np.concatenate([before for _, _, before in self._found], axis=1) + 1
        ranks = []
        for number, keep, all_ranks in zip(self._numbers, inside, rank_of, strict=True):
            queries, kept = query[keep], all_ranks[keep]
            order = np.lexsort((kept, queries))
            ranks.append((number, Ranks(queries[order], kept[order])))
        return ranks
