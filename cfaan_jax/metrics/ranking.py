"""Ranks of the right answers of every query, and what follows from them: CMC, average precision, mINP.

A right answer's rank is one plus the gallery rows before it: a binary search in the sorted distances, minus the rows
that the query ignores. Equal distances rank as in a stable ascending sort: the first row in the gallery is first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.metrics.protocols import DISTRACTOR, JUNK

_NO_ROWS = np.zeros(0, np.intp)


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
        """Gallery rows of every person, ascending; junk and distractors are not persons."""
        pids, rows = self.g_pids, np.arange(len(self.g_pids))
        if self.revised:
            ambiguous = np.flatnonzero(self.g_second != self.g_pids)
            pids, rows = np.concatenate([pids, self.g_second[ambiguous]]), np.concatenate([rows, ambiguous])
        person = (pids != JUNK) & (pids != DISTRACTOR)
        return _rows_by_key(pids[person], rows[person])

    @cached_property
    def _distractors_of_camera(self) -> dict[int, np.ndarray]:
        rows = np.flatnonzero(self.g_pids == DISTRACTOR)
        return _rows_by_key(self.g_camids[rows], rows)

    def of_query(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Gallery rows that are right answers to a query, and rows that it ignores beside junk; no row twice."""
        camera, pid, second = self.q_camids[query], self.q_pids[query], self.q_second[query]
        same = self._rows_of_identity.get(pid, _NO_ROWS)
        if self.revised and second != pid:
            same = np.union1d(same, self._rows_of_identity.get(second, _NO_ROWS))
        same_camera = self.g_camids[same] == camera
        right, ignored = same[~same_camera], same[same_camera]
        if self.revised:
            ignored = ignored[self.g_pids[ignored] != DISTRACTOR]
            ignored = np.concatenate([ignored, self._distractors_of_camera.get(camera, _NO_ROWS)])
        return right, ignored


def _rows_by_key(keys: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), map(np.unique, np.split(rows[order], starts[1:])), strict=False))


@dataclass(frozen=True)
class Ranks:
    """One entry for every (query, right answer): `query` int [M], `rank` int [M] from 1; sorted by query, then rank."""

    query: np.ndarray
    rank: np.ndarray

    @cached_property
    def valid(self) -> np.ndarray:
        """The queries that have a right answer, int [V]."""
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
        right_so_far = np.arange(1, len(self.rank) + 1) - np.repeat(self._starts, counts)
        precision = right_so_far / self.rank
        if trapezoid:
            before = np.where(self.rank == 1, 1.0, (right_so_far - 1) / np.maximum(self.rank - 1, 1))
            precision = (precision + before) / 2
        return np.add.reduceat(precision, self._starts) / counts


class View(NamedTuple):
    """How one protocol looks at the matrix: who is seen where, and the columns of its gallery in order, int [G]."""

    identities: Identities
    columns: np.ndarray


@runtime_checkable
class Strips(Protocol):
    """A matrix of distances that is computed some rows at a time: `big_gallery.CosineDistances`."""

    shape: tuple[int, int]

    def strips(self) -> Iterator[np.ndarray]:
        """The rows in order, some at a time; a strip may overwrite the one before it."""


def rank(distmat: np.ndarray | Strips, views: Sequence[View]) -> list[Ranks]:
    """Ranks the right answers of every query under every view; views that share an `Identities` object share its work.

    `distmat` is [Q, N] distances, smaller is nearer, any real dtype, whole or in strips. InputError: one is NaN.
    """
    galleries: dict[bytes, tuple[np.ndarray, list[int]]] = {}  # columns, and the views with them, which share a sort
    for number, (identities, columns) in enumerate(views):
        columns = columns[identities.g_pids[columns] != JUNK]
        galleries.setdefault(columns.tobytes(), (columns, []))[1].append(number)
    # Place in a gallery of every column, -1 where it is not in it.
    places = [np.full(distmat.shape[1], -1) for _ in galleries]
    for place, (columns, _) in zip(places, galleries.values(), strict=True):
        place[columns] = np.arange(len(columns))
    ranks: list[list[np.ndarray]] = [[] for _ in views]
    strips = distmat.strips() if isinstance(distmat, Strips) else (distmat,)
    for query, distances in enumerate(row for strip in strips for row in strip):
        if np.isnan(distances).any():
            raise InputError(f"the distances of query {query} hold NaN; look for NaN in its feature and in the "
                             "gallery's features")
        for (columns, numbers), place in zip(galleries.values(), places, strict=True):
            in_order = distances[columns]
            ascending = np.sort(in_order)
            for number in numbers:
                right, ignored = (place[rows] for rows in views[number].identities.of_query(query))
                ranks[number].append(_ranks_of_query(in_order, ascending, right[right >= 0], ignored[ignored >= 0]))
    return [Ranks(np.repeat(np.arange(len(by_query)), [len(array) for array in by_query]), np.concatenate(by_query))
            for by_query in ranks]


def _ranks_of_query(in_order: np.ndarray, ascending: np.ndarray, right: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Ascending ranks of the right answers among the distances [G]; `right` and `ignored` are places in `in_order`."""
    values = in_order[right]
    nearer = ascending.searchsorted(values)
    ranks = 1 + nearer - (in_order[ignored] < values[:, None]).sum(axis=1)
    for i in np.flatnonzero(ascending.searchsorted(values, "right") > nearer + 1):  # equal distances
        earlier = ignored[ignored < right[i]]
        ranks[i] += (in_order[:right[i]] == values[i]).sum() - (in_order[earlier] == values[i]).sum()
    return np.sort(ranks)
