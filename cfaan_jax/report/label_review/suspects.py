"""Which labels deserve a second look: tracklets about which the features, or the detections, contradict the label.

Section 4.5 of the paper counts label errors and ambiguous identities in the test tracklets of MARS. These rankings put
such tracklets first, so that a person who looks at few of them finds many. Nothing here decides: features err as well.

Evidence is in bits: how much likelier two tracklets with this cosine are one person's than two persons'. It is measured
on the labels themselves, most of which are right, apart for pairs under one camera and under two, because tracklets of
one camera look alike whoever they show. What speaks for an identity is the mean over its two nearest tracklets.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.metrics.protocols import DISTRACTOR
from cfaan_jax.metrics.search import Search

IDENTITY, DUPLICATE, AMBIGUOUS = "another identity", "distractor shows an identity", "two persons"
_NEAREST = 2  # one alone may be wrong itself; the mean of more forgets an identity's odd views
_SHOWN = 3  # identities, and tracklets of each
_BLOCK = 1024
_PAIRS = 200_000
_PENALTY = 0.01
_Z = 1.645  # of the one-sided 95 % bound


@dataclass(frozen=True)
class Suspect:
    """One tracklet whose label may be wrong.

    Attributes:
        row: in the search.
        kind: `IDENTITY` or `DUPLICATE`: it resembles another identity more than its own, or a distractor resembles one;
            `AMBIGUOUS`: two persons are in many of its frames.
        weight: by which suspects of a kind are ordered. For the first two kinds bits, for `AMBIGUOUS` the share of
            frames that hold two persons, as a bound that is too low in 5 % of cases.
        own: rows of the nearest tracklets of its own identity, nearest first.
        others: the same for each of the other identities that it resembles most, the likeliest first.
    """

    row: int
    kind: str
    weight: float
    own: tuple[int, ...]
    others: tuple[tuple[int, ...], ...]


def find(found: Search, crowded: np.ndarray | None = None) -> list[Suspect]:
    """All tracklets in question, the strongest first: the first of each kind, the second of each kind, and so on.

    Each comes once, for the reason that brings it to the front.

    Args:
        found: features and stored labels of the test tracklets; junk is left out.
        crowded: int [N, 2], in how many frames of each tracklet two or more persons were found, and its frames; None
            where nothing was detected, and then nothing is said about two persons.
    Raises:
        InputError: no identity has two tracklets, so nothing tells what one person looks like.
    """
    resemblance = _Resemblance(found)
    kinds = [_ordered(IDENTITY, found.pids > DISTRACTOR, resemblance.best - resemblance.own),
             _ordered(DUPLICATE, found.pids == DISTRACTOR, resemblance.best)]
    if crowded is not None:
        kinds.append(_ordered(AMBIGUOUS, found.pids > DISTRACTOR, lower_bound(*crowded.T)))
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds))
    first: dict[int, tuple[str, float]] = {}
    for row, kind, weight in filter(None, turns):
        first.setdefault(row, (kind, weight))
    return [Suspect(row, kind, weight, resemblance.own_tracklets(row), resemblance.others(row))
            for row, (kind, weight) in first.items()]


def lower_bound(successes: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Lower 95 % bound of a share (Wilson's interval), so that a few frames alone do not say much."""
    share, z = successes / trials, _Z
    spread = np.sqrt(share * (1 - share) / trials + z ** 2 / (4 * trials ** 2))
    return (share + z ** 2 / (2 * trials) - z * spread) / (1 + z ** 2 / trials)


def _ordered(kind: str, rows: np.ndarray, weight: np.ndarray) -> list[tuple[int, str, float]]:
    chosen = np.flatnonzero(rows & np.isfinite(weight))
    return [(int(row), kind, float(weight[row])) for row in chosen[np.argsort(-weight[chosen], kind="stable")]]


class _Resemblance:
    """How much speaks for each tracklet being its own identity, and the best other one.

    Attributes:
        own, best: bits, float64 [N]; minus infinity where there is no such tracklet.
    """

    def __init__(self, found: Search):
        self._unit, self._pids, self._camids = found.unit_features(), found.pids, found.camids
        self._bits = _fit(self._unit, found.pids, found.camids)
        # Tracklets of identities, those of each one together.
        self._people = np.flatnonzero(found.pids > DISTRACTOR)
        self._people = self._people[np.argsort(found.pids[self._people], kind="stable")]
        self._identities, self._starts = np.unique(found.pids[self._people], return_index=True)
        self.own, self.best = np.full((2, len(found.pids)), -np.inf)
        self._likeliest: list[np.ndarray] = []  # of each tracklet, other identities
        for start in range(0, len(found.pids), _BLOCK):
            self._measure(np.arange(start, min(start + _BLOCK, len(found.pids))))

    def _measure(self, rows: np.ndarray) -> None:
        support = self._support(self._evidence(rows))
        own = self._identities[None] == self._pids[rows, None]
        self.own[rows] = np.where(own, support, -np.inf).max(axis=1)
        others = np.where(own, -np.inf, support)
        self.best[rows] = others.max(axis=1)
        for support in others:
            first = np.argsort(-support, kind="stable")[:_SHOWN]
            self._likeliest.append(self._identities[first[np.isfinite(support[first])]])

    def _evidence(self, rows: np.ndarray) -> np.ndarray:
        """Bits for each of some rows and each tracklet of an identity, [R, P]; minus infinity for itself."""
        cosine = self._unit[rows] @ self._unit[self._people].T
        evidence = self._bits(cosine, self._camids[rows, None] == self._camids[None, self._people])
        evidence[rows[:, None] == self._people[None]] = -np.inf
        return evidence

    def _support(self, evidence: np.ndarray) -> np.ndarray:
        """What speaks for each identity, [R, P] -> [R, I]."""
        return np.stack([_mean_of_best(part) for part in np.split(evidence, self._starts[1:], axis=1)], axis=1)

    def own_tracklets(self, row: int) -> tuple[int, ...]:
        return self._nearest(row, int(self._pids[row]))

    def others(self, row: int) -> tuple[tuple[int, ...], ...]:
        return tuple(self._nearest(row, identity) for identity in self._likeliest[row].tolist())

    def _nearest(self, row: int, identity: int) -> tuple[int, ...]:
        there = self._people[self._pids[self._people] == identity]
        there = there[there != row]
        bits = self._bits(self._unit[there] @ self._unit[row], self._camids[there] == self._camids[row])
        return tuple(there[np.argsort(-bits, kind="stable")][:_SHOWN].tolist())


def _mean_of_best(evidence: np.ndarray) -> np.ndarray:
    """Mean of the `_NEAREST` largest finite entries of each row, or of fewer; minus infinity where there is none."""
    best = np.sort(evidence, axis=1)[:, -_NEAREST:]
    there = np.isfinite(best)
    number = there.sum(axis=1)
    return np.where(number > 0, np.where(there, best, 0).sum(axis=1) / np.maximum(number, 1), -np.inf)


def _fit(unit: np.ndarray, pids: np.ndarray, camids: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Logistic regression of "one person" on the cosine, apart for two cameras and for one, at even odds.

    Returns:
        A function (cosines, whether under one camera) -> bits.
    """
    first, second, same = _pairs(pids)
    cosine, one_camera = np.einsum("nd,nd->n", unit[first], unit[second]), camids[first] == camids[second]
    inputs = np.stack([~one_camera, one_camera, cosine * ~one_camera, cosine * one_camera], axis=1).astype(np.float64)
    weights = np.where(same, 0.5 / same.mean(), 0.5 / (1 - same.mean()))
    found = np.zeros(4)
    for _ in range(100):  # Newton's method; without the penalty, pairs that a cosine divides cleanly have no optimum
        share = 1 / (1 + np.exp(-inputs @ found))
        slope = inputs.T @ (weights * (same - share)) - _PENALTY * found
        curvature = (inputs * (weights * share * (1 - share))[:, None]).T @ inputs + _PENALTY * np.eye(4)
        step = np.linalg.solve(curvature, slope)
        found += step
        if np.abs(step).max() < 1e-9:
            break
    bias, slope = found.reshape(2, 2) / np.log(2)
    return lambda cosine, one_camera: np.where(one_camera, bias[1] + slope[1] * cosine, bias[0] + slope[0] * cosine)


def _pairs(pids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of pairs of tracklets of identities, and whether both carry one: all such pairs and as many others.

    Where there are more than `_PAIRS`, so many of each, drawn.
    """
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(pids > DISTRACTOR)
    together = [list(itertools.combinations(rows[pids[rows] == pid].tolist(), 2)) for pid in np.unique(pids[rows])]
    same = np.array(list(itertools.chain.from_iterable(together)), np.int64).reshape(-1, 2)
    if not len(same):
        raise InputError("no identity has two tracklets, so the features cannot tell which labels are doubtful")
    if len(same) > _PAIRS:
        same = same[rng.choice(len(same), _PAIRS, replace=False)]
    other = rng.choice(rows, (4 * len(same) + 100, 2))
    other = other[pids[other[:, 0]] != pids[other[:, 1]]][:len(same)]
    if not len(other):
        raise InputError("there is only one identity, so there is none that a tracklet could belong to instead")
    pairs = np.concatenate([same, other])
    return pairs[:, 0], pairs[:, 1], np.repeat([True, False], [len(same), len(other)])
