"""Tracklets of MARS without a picture: their lengths, identities and cameras, its own or drawn to its totals."""

from pathlib import Path

import numpy as np

from data_prep.datasets import mars

_SPREAD = 1.1  # of the logarithm of lengths: the mean of MARS's test tracklets is 1.9 times their median
_SHORTEST = 2  # frames
_QUERY_IDENTITIES = mars.RELEASED["query identities"]


def metadata(info: Path | None) -> mars.Metadata:
    """What the .mat files in the folder `info` say; without one, tracklets drawn to the published totals of MARS."""
    return mars.read_metadata(info) if info else _drawn(np.random.default_rng(0))


def described(info: Path | None) -> str:
    """Where `metadata` comes from, for people."""
    return f"tracklets as in {info}" if info else "tracklets drawn to the totals of MARS"


def queries_first(found: mars.Metadata) -> np.ndarray:
    """Rows of the test list, int64 `[n]`: first the queries, then the others."""
    others = np.setdiff1d(np.arange(len(found.test)), found.query)
    return np.concatenate([found.query, others])


def _drawn(rng: np.random.Generator) -> mars.Metadata:
    sizes = mars.RELEASED
    train = _people(rng, sizes["training tracklets"], sizes["training identities"])
    real = sizes["test tracklets"] - sizes["junk tracklets"] - sizes["distractor tracklets"]
    test = np.concatenate([np.full(sizes["junk tracklets"], -1), np.zeros(sizes["distractor tracklets"], np.int64),
                           _people(rng, real, sizes["test identities"])])
    searched = np.unique(test[test > 0])[:_QUERY_IDENTITIES]
    one_each = np.array([rng.choice(np.flatnonzero(test == pid)) for pid in searched])
    more = np.setdiff1d(np.flatnonzero(np.isin(test, searched)), one_each)
    more = rng.choice(more, sizes["query tracklets"] - len(one_each), replace=False)
    return mars.Metadata(_rows(rng, train, sizes["training frames"]), _rows(rng, test, sizes["test frames"]),
                         np.sort(np.concatenate([one_each, more])))


def _people(rng: np.random.Generator, tracklets: int, identities: int) -> np.ndarray:
    """The identity of each tracklet, from 1 and increasing; everybody has one at least."""
    everybody = np.arange(1, identities + 1)
    return np.sort(np.concatenate([everybody, rng.choice(everybody, tracklets - identities)]))


def _rows(rng: np.random.Generator, pids: np.ndarray, frames: int) -> np.ndarray:
    """Rows as in `mars.Metadata`, of so many frames in all."""
    shares = rng.lognormal(sigma=_SPREAD, size=len(pids))
    lengths = _SHORTEST + rng.multinomial(frames - _SHORTEST * len(pids), shares / shares.sum())
    ends = np.cumsum(lengths)
    return np.stack([ends - lengths, ends, pids, rng.integers(1, mars.CAMERAS + 1, len(pids))], axis=1)
