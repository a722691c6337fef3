"""Scores a distance matrix under named protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cfaan_jax.errors import InputError
from cfaan_jax.metrics import protocols as known
from cfaan_jax.metrics.corrections import refuse_shared_marker
from cfaan_jax.metrics.protocols import Protocol
from cfaan_jax.metrics.ranking import Identities, Ranks, Strips, View, rank


@dataclass(frozen=True)
class Score:
    """Result of one protocol for a distance matrix; all metrics are shares between 0 and 1.

    Attributes:
        protocol: its name.
        cmc: float64 [max_rank]; entry k-1 is the share of queries with a right answer at rank k or better. It is
            constant beyond the size of the gallery.
        mAP, mINP: means of `ap` and `inp`; under `mars_matlab`, all other queries count as zero.
        ap, inp: float64 [num_valid], of the valid queries: average precision; and inverse negative penalty, the
            number of right answers divided by the rank of the last one.
        first: int [num_valid], the rank of their first right answer, from 1.
        valid: int [num_valid], their numbers.
        num_valid, num_queries: number of queries with a right answer in the gallery, and of all.
        gallery_size: rows of the gallery, including those that queries ignore.
    """

    protocol: str
    cmc: np.ndarray
    mAP: float
    mINP: float
    ap: np.ndarray
    inp: np.ndarray
    first: np.ndarray
    valid: np.ndarray
    num_valid: int
    num_queries: int
    gallery_size: int


def score(distmat: ArrayLike | Strips, q_pids: ArrayLike, g_pids: ArrayLike, q_camids: ArrayLike, g_camids: ArrayLike,
          protocol: str = "mars", q_second: ArrayLike | None = None, g_second: ArrayLike | None = None,
          max_rank: int = 50, check_sizes: bool = False) -> Score:
    """Scores distances [Q, G] between queries and exactly the gallery of one protocol.

    In the example, the second query's person is at rank 2. The first row of the gallery is ignored: it shows the first
    query's person under the query's own camera.

    Examples:
        >>> from cfaan_jax import metrics
        >>> result = metrics.score([[0.0, 0.2, 0.3], [0.5, 0.2, 0.4]], q_pids=[1, 2], g_pids=[1, 1, 2], q_camids=[1, 1],
        ...                       g_camids=[1, 2, 2], protocol="mars")
        >>> result.cmc[:2].tolist(), result.mAP, result.first.tolist()
        ([0.5, 1.0], 0.75, [1, 2])

    Args:
        distmat: [Q, G], smaller is nearer; equal distances rank in the gallery's order. Where it would not fit memory:
            `big_gallery.CosineDistances`.
        q_pids, g_pids, q_camids, g_camids: int [Q] and [G]; rows with pid -1 are ignored. A revised protocol takes the
            corrected identities.
        protocol: a name of `protocols.PROTOCOLS`.
        q_second, g_second: second identities of ambiguous tracklets, the own identity of all others; None = nobody is
            ambiguous. Only the revised protocols look at them.
        max_rank: length of the CMC curve.
        check_sizes: refuse other numbers of queries, gallery rows and valid queries than the real data set has.
    Raises:
        InputError: unknown protocol, lengths that do not fit, NaN among the distances, empty gallery, no query with a
            match, a marker shared as second identity, wrong sizes.
    """
    return score_all(distmat, q_pids, g_pids, q_camids, g_camids, [protocol], q_second, g_second, max_rank,
                     check_sizes)[protocol]


def score_all(distmat: ArrayLike | Strips, q_pids: ArrayLike, g_pids: ArrayLike, q_camids: ArrayLike,
              g_camids: ArrayLike, protocols: str | Sequence[str], q_second: ArrayLike | None = None,
              g_second: ArrayLike | None = None, max_rank: int = 50, check_sizes: bool = False, *,
              q_corrected: ArrayLike | None = None, g_corrected: ArrayLike | None = None,
              galleries: Mapping[str, np.ndarray] | None = None) -> dict[str, Score]:
    """Scores by protocol, from one ranking; arguments as for `score`, and those below.

    A distractor (pid 0) under the query's camera is a wrong answer, but the revised rules ignore it:

    Examples:
        >>> from cfaan_jax import metrics
        >>> scores = metrics.score_all([[0.1, 0.2]], [1], [0, 1], [1], [1, 2], protocols=["mars", "mars_revised"])
        >>> {name: score.mAP for name, score in scores.items()}
        {'mars': 0.5, 'mars_revised': 1.0}

    Args:
        protocols: names, or "all".
        q_corrected, g_corrected: identities for the revised protocols, int [Q] and [G]; None = `q_pids`, `g_pids`.
        galleries: for each protocol the columns that make up its gallery, in its order, int [N]
            (`protocols.gallery_rows`); None = every protocol's gallery is all columns.
    """
    chosen, distmat = known.resolve(protocols), _matrix(distmat)
    if not isinstance(max_rank, int | np.integer) or max_rank < 1:
        raise InputError(f"max_rank is {max_rank!r}; it must be a whole number of at least 1")
    cameras = dict(q_camids=q_camids, g_camids=g_camids)
    identities = {False: _identities(distmat.shape, False, q_pids=q_pids, g_pids=g_pids, **cameras,
                                     q_second=q_pids, g_second=g_pids)}
    if any(protocol.revised for protocol in chosen):
        q_pids, g_pids = q_pids if q_corrected is None else q_corrected, g_pids if g_corrected is None else g_corrected
        identities[True] = revised = _identities(
            distmat.shape, True, q_pids=q_pids, g_pids=g_pids, **cameras,
            q_second=q_pids if q_second is None else q_second, g_second=g_pids if g_second is None else g_second)
        people = np.concatenate([revised.q_pids, revised.g_pids])
        refuse_shared_marker(people, np.concatenate([revised.q_second, revised.g_second]), people, "q_second, g_second")
    views = [View(identities[protocol.revised], _gallery(galleries, protocol, distmat.shape[1])) for protocol in chosen]
    scores = {}
    for protocol, view, ranks in zip(chosen, views, rank(distmat, views), strict=True):
        scores[protocol.name] = _score_of_ranks(protocol, ranks, distmat.shape[0], len(view.columns), max_rank)
        if check_sizes:
            _check_sizes(protocol, scores[protocol.name])
    return scores


def _matrix(distmat: ArrayLike | Strips) -> np.ndarray | Strips:
    if isinstance(distmat, Strips):
        return distmat
    distmat = np.asarray(distmat)
    if distmat.ndim != 2 or distmat.dtype.kind not in "fiu" or 0 in distmat.shape:
        raise InputError(f"distmat has shape {distmat.shape} and dtype {distmat.dtype}; it must be a real matrix "
                         "[queries, gallery], not empty")
    return distmat


def _identities(shape: tuple[int, int], revised: bool, **labels: ArrayLike) -> Identities:
    """Labels by the names of the fields of `Identities`, checked against the shape of the distances."""
    arrays = {}
    for name, values in labels.items():
        values, length = np.asarray(values), shape[name.startswith("g_")]
        if values.shape != (length,):
            raise InputError(f"{name} has shape {values.shape}; distmat {shape} needs ({length},)")
        arrays[name] = values.astype(np.int64)
        if not np.array_equal(arrays[name], values):
            raise InputError(f"{name} holds values that are not whole numbers")
    return Identities(**arrays, revised=revised)


def _gallery(galleries: Mapping[str, np.ndarray] | None, protocol: Protocol, count: int) -> np.ndarray:
    """The columns of a protocol's gallery, of `count` in all."""
    columns = np.arange(count) if galleries is None else np.asarray(galleries[protocol.name])
    if len(columns) == 0:
        raise InputError(f"the gallery of protocol {protocol.name} is empty")
    if columns.min() < 0 or columns.max() >= count or len(np.unique(columns)) != len(columns):
        raise InputError(f"the gallery of protocol {protocol.name} must be different columns out of {count}")
    return columns


def _score_of_ranks(protocol: Protocol, ranks: Ranks, queries: int, gallery: int, max_rank: int) -> Score:
    valid = len(ranks.valid)
    if valid == 0:
        raise InputError(f"protocol {protocol.name}: none of the {queries} queries has a right answer (the same person "
                         f"under another camera) in a gallery of {gallery}; check identities and cameras")
    ap, inp = ranks.average_precision(protocol.trapezoid), ranks.inverse_penalty()
    share = valid / queries if protocol.every_query else 1.0
    return Score(protocol=protocol.name, cmc=ranks.cmc(max_rank) * share, mAP=float(ap.mean() * share),
                 mINP=float(inp.mean() * share), ap=ap, inp=inp, first=ranks.first, valid=ranks.valid, num_valid=valid,
                 num_queries=queries, gallery_size=gallery)


def _check_sizes(protocol: Protocol, result: Score) -> None:
    wanted, got = protocol.sizes, (result.num_queries, result.gallery_size, result.num_valid)
    expected = (wanted.queries, wanted.gallery, result.num_valid if wanted.valid is None else wanted.valid)
    if got != expected:
        raise InputError(f"protocol {protocol.name}: {got[0]} queries ({got[2]} of them valid), gallery of {got[1]}; "
                         f"the real data set has {expected[0]} ({expected[2]}), {expected[1]}")
