"""Tracklets whose label is doubtful, because the features or the detections contradict it (paper, section 4.5).

They come first, so that a person who looks at few finds many. Nothing is decided: features err as well. Evidence is in
bits: the log-odds that two tracklets with this cosine show one person, fitted to the labels themselves, most of which
are right, and separately for pairs under one camera, which look alike, and under two.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.metrics.distances import l2_normalize
from cfaan_jax.metrics.protocols import DISTRACTOR
from cfaan_jax.metrics.search import Search

IDENTITY, DUPLICATE, AMBIGUOUS = "another identity", "distractor shows an identity", "two persons"
_NEAREST = 2  # tracklets of an identity: one may be mislabelled, the mean of more forgets its rare views
_SHOWN = 3  # identities, and tracklets of an identity
_BLOCK = 1024
_PAIRS = 200_000
_PENALTY = 0.01
_Z = 1.645  # of the one-sided 95 % bound

Bits = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (cosines, whether under one camera) -> evidence


@dataclass(frozen=True)
class Suspect:
    """One tracklet whose label may be wrong."""

    row: int  # in the search
    kind: str  # it resembles another identity more than its own; is a distractor that resembles one; or has two persons
    weight: float  # orders a kind: bits; for `AMBIGUOUS` the lower 95 % bound of the share of frames with two persons
    own: tuple[int, ...]  # rows of the nearest tracklets of its own identity, nearest first
    others: tuple[tuple[int, ...], ...]  # the same for the identities that it resembles most, the most likely first


def find(search: Search, crowded: np.ndarray | None = None) -> list[Suspect]:
    """All doubtful tracklets but junk: the first of every kind, the second of every kind, and so on.

    A tracklet comes once, for the kind that ranks it first. `crowded` is int [N, 2], number of frames with two or more
    detected persons, and of frames, for every tracklet; without it no suspect is `AMBIGUOUS`. InputError: no identity
    has two tracklets, or there is only one identity.
    """
    resemblance = _Resemblance(search)
    kinds = [_ordered(IDENTITY, search.pids > DISTRACTOR, resemblance.best - resemblance.own),
             _ordered(DUPLICATE, search.pids == DISTRACTOR, resemblance.best)]
    if crowded is not None:
        kinds.append(_ordered(AMBIGUOUS, search.pids > DISTRACTOR, lower_bound(*crowded.T)))
    turns = itertools.chain.from_iterable(itertools.zip_longest(*kinds))
    first: dict[int, tuple[str, float]] = {}
    for row, kind, weight in filter(None, turns):
        first.setdefault(row, (kind, weight))
    return [Suspect(row, kind, weight, resemblance.nearest(row, search.pids[row]),
                    tuple(resemblance.nearest(row, identity) for identity in resemblance.likeliest[row]))
            for row, (kind, weight) in first.items()]


def lower_bound(successes: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Lower 95 % bound of a share (Wilson's interval), so that few frames weigh little."""
    share, z = successes / trials, _Z
    half_width = z * np.sqrt(share * (1 - share) / trials + z ** 2 / (4 * trials ** 2))
    return (share + z ** 2 / (2 * trials) - half_width) / (1 + z ** 2 / trials)


def _ordered(kind: str, rows: np.ndarray, weight: np.ndarray) -> list[tuple[int, str, float]]:
    chosen = np.flatnonzero(rows & np.isfinite(weight))
    return [(int(row), kind, float(weight[row])) for row in chosen[np.argsort(-weight[chosen], kind="stable")]]


class _Resemblance:
    """Evidence for every tracklet showing its own identity, and the best other one: bits `own` and `best`, float64 [N].

    Minus infinity stands where there is no such tracklet. `likeliest` are at most `_SHOWN` other identities of each.
    """

    def __init__(self, search: Search):
        self._features, self._pids, self._camids = l2_normalize(search.features), search.pids, search.camids
        self._bits = _fit_evidence(self._features, search.pids, search.camids)
        # Rows of tracklets of identities, grouped by identity.
        self._people = np.flatnonzero(search.pids > DISTRACTOR)
        self._people = self._people[np.argsort(search.pids[self._people], kind="stable")]
        self._identities, self._starts = np.unique(search.pids[self._people], return_index=True)
        self.own, self.best = np.full((2, len(search.pids)), -np.inf)
        self.likeliest: list[np.ndarray] = []
        for start in range(0, len(search.pids), _BLOCK):
            self._measure(np.arange(start, min(start + _BLOCK, len(search.pids))))

    def _measure(self, rows: np.ndarray) -> None:
        cosine = self._features[rows] @ self._features[self._people].T
        evidence = self._bits(cosine, self._camids[rows, None] == self._camids[None, self._people])
        evidence[rows[:, None] == self._people[None]] = -np.inf  # a tracklet says nothing about itself
        support = np.stack([_mean_of_best(part) for part in np.split(evidence, self._starts[1:], axis=1)], axis=1)
        own = self._identities[None] == self._pids[rows, None]
        self.own[rows] = np.where(own, support, -np.inf).max(axis=1)
        others = np.where(own, -np.inf, support)
        self.best[rows] = others.max(axis=1)
        for support in others:
            order = np.argsort(-support, kind="stable")[:_SHOWN]
            self.likeliest.append(self._identities[order[np.isfinite(support[order])]])

    def nearest(self, row: int, identity: int) -> tuple[int, ...]:
        """Rows of at most `_SHOWN` tracklets of an identity, the most similar to a tracklet first."""
        tracklets = self._people[self._pids[self._people] == identity]
        tracklets = tracklets[tracklets != row]
        bits = self._bits(self._features[tracklets] @ self._features[row], self._camids[tracklets] == self._camids[row])
        return tuple(tracklets[np.argsort(-bits, kind="stable")][:_SHOWN].tolist())


def _mean_of_best(evidence: np.ndarray) -> np.ndarray:
    """Mean of the `_NEAREST` largest finite entries of every row, or of fewer; minus infinity where there is none."""
    best = np.sort(evidence, axis=1)[:, -_NEAREST:]
    finite = np.isfinite(best)
    number = finite.sum(axis=1)
    return np.where(number > 0, np.where(finite, best, 0).sum(axis=1) / np.maximum(number, 1), -np.inf)


def _fit_evidence(features: np.ndarray, pids: np.ndarray, camids: np.ndarray) -> Bits:
    """Logistic regression of "one person" on the cosine, separately for two cameras and for one, at even odds."""
    first, second, same = _pairs(pids)
    cosine, one_camera = np.einsum("nd,nd->n", features[first], features[second]), camids[first] == camids[second]
    inputs = np.stack([~one_camera, one_camera, cosine * ~one_camera, cosine * one_camera], axis=1).astype(np.float64)
    weights = np.where(same, 0.5 / same.mean(), 0.5 / (1 - same.mean()))
    coefficients = np.zeros(4)
    for _ in range(100):  # Newton's method; the penalty gives separable pairs an optimum
        share = 1 / (1 + np.exp(-inputs @ coefficients))
        gradient = inputs.T @ (weights * (same - share)) - _PENALTY * coefficients
        curvature = (inputs * (weights * share * (1 - share))[:, None]).T @ inputs + _PENALTY * np.eye(4)
        step = np.linalg.solve(curvature, gradient)
        coefficients += step
        if np.abs(step).max() < 1e-9:
            break
    bias, slope = coefficients.reshape(2, 2) / np.log(2)
    return lambda cosine, one_camera: np.where(one_camera, bias[1] + slope[1] * cosine, bias[0] + slope[0] * cosine)


def _pairs(pids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second rows of pairs, and whether they have one identity: all such pairs, and as many others.

    At most `_PAIRS` of both, drawn at random.
    """
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(pids > DISTRACTOR)
    together = [list(itertools.combinations(rows[pids[rows] == pid].tolist(), 2)) for pid in np.unique(pids[rows])]
    same = np.array(list(itertools.chain.from_iterable(together)), np.int64).reshape(-1, 2)
    if not len(same):
        raise InputError("no identity has two tracklets, so no label can be called doubtful; give more tracklets")
    if len(same) > _PAIRS:
        same = same[rng.choice(len(same), _PAIRS, replace=False)]
    other = rng.choice(rows, (4 * len(same) + 100, 2))
    other = other[pids[other[:, 0]] != pids[other[:, 1]]][:len(same)]
    if not len(other):
        raise InputError("there is only one identity, so no tracklet can show another one; give more identities")
    pairs = np.concatenate([same, other])
    return pairs[:, 0], pairs[:, 1], np.repeat([True, False], [len(same), len(other)])
