"""Features and labels of queries and gallery, ready to be scored under any protocol."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cfaan_jax.errors import InputError, reason
from cfaan_jax.metrics import corrections, protocols
from cfaan_jax.metrics.big_gallery import CosineDistances
from cfaan_jax.metrics.cameras import CameraPairs, camera_pairs
from cfaan_jax.metrics.distances import DISTANCES, normalize_for, pairwise
from cfaan_jax.metrics.protocols import JUNK, Protocol
from cfaan_jax.metrics.ranking import Identities, View
from cfaan_jax.metrics.reranking import rerank
from cfaan_jax.metrics.scores import Score, score_all
from cfaan_jax.runtime.files import atomic_file, check_types, parse_json, read_npz

_LARGEST_MATRIX = 1 << 30  # bytes
_LABELS = {"names": "U", "track_ids": "i", "pids": "i", "camids": "i"}  # and how their dtypes begin


@dataclass(frozen=True)
class About:
    """What every score and page made from these features says with it."""

    dataset: str
    note: str  # the caveat that goes with the data set; "": none
    aligned: bool  # whether the tracklets went through Re-Detect and Link
    model: str
    seed: int | None  # of the network's training; None: unknown
    weights: str  # "last", "best" or "untrained", or where they come from
    clips: str  # which clips of a tracklet were averaged
    distance: str = "cosine"  # one of `DISTANCES`
    left_out: int = 0  # number of damaged test tracklets, which are not among these
    whitened: bool = False  # with these tracklets, see `whitening`

    def line(self) -> str:
        """One line of text."""
        tracklets = f"{'aligned' if self.aligned else 'raw'} tracklets of {self.dataset}"
        line = f"{self.model}, {tracklets}, weights {self.weights}, clips {self.clips}"
        line += ", whitening (within-class covariance)" if self.whitened else ""
        line += "" if self.seed is None else f", seed {self.seed}"
        line += "" if self.distance == "cosine" else f", {self.distance} distance"
        line += f"; damaged test tracklets left out: {self.left_out:,}" if self.left_out else ""
        return f"{line}; {self.note}" if self.note else line


@dataclass(frozen=True)
class Answer:
    """One entry of a ranked list: the tracklet's row in the search, its distance, "right", "wrong" or "ignored"."""

    row: int
    distance: float
    kind: str


@dataclass(frozen=True)
class Search:
    """N test tracklets: the queries, then the gallery split, both in the order of the data set's list."""

    features: np.ndarray  # float32 [N, D], not normalised
    num_queries: int
    names: np.ndarray  # [N]; the next three int64 [N], as stored
    track_ids: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    about: About

    def save(self, path: Path) -> None:
        """Writes everything to one .npz file."""
        with atomic_file(path) as file:
            np.savez(file, **vars(self) | {"about": json.dumps(asdict(self.about))})

    @classmethod
    def load(cls, path: str | Path) -> "Search":
        """Reads what `save` wrote; anything else, and features that are not finite, are an `InputError`."""
        try:
            arrays: dict[str, Any] = read_npz(path)
            if missing := sorted({"features", "num_queries", "about"} - set(arrays)):
                raise ValueError(f"no array '{missing[0]}'")
            if arrays["num_queries"].dtype.kind != "i":
                raise ValueError(f"num_queries of {arrays['num_queries'].dtype}")
            about = About(**parse_json(str(arrays["about"])))
            search = cls(**arrays | {"num_queries": int(arrays["num_queries"]), "about": about})
            search._check()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a file of features ({reason(error)}); --mode=evaluate writes one") from error
        return search

    @classmethod
    def of_splits(cls, features: np.ndarray, query, gallery, about: About) -> "Search":
        """Features [N, D] of a query and a gallery split (`data.records.RecordSet`), with their labels."""
        labels = {name: np.concatenate([getattr(query, name), getattr(gallery, name)]) for name in _LABELS}
        return cls(features, len(query), **labels, about=about)

    def without(self, rows: np.ndarray) -> "Search":
        """The same search without the tracklets of `rows`, bool [N]."""
        arrays = {name: getattr(self, name)[~rows] for name in ("features", *_LABELS)}
        return replace(self, num_queries=int((~rows[:self.num_queries]).sum()), **arrays)

    def _check(self) -> None:
        """ValueError for what `save` does not write: other types, arrays that do not fit, infinite numbers."""
        for name, kind in ({"features": "f4"} | _LABELS).items():
            array = getattr(self, name)
            if not array.dtype.str[1:].startswith(kind) or array.ndim != 1 + (name == "features"):
                raise ValueError(f"{name} of {array.dtype} and shape {list(array.shape)}")
        check_types(self.about)
        if self.about.distance not in DISTANCES or self.about.left_out < 0:
            raise ValueError(f"distance {self.about.distance}, {self.about.left_out} left out")
        labels = [len(getattr(self, name)) for name in _LABELS]
        if not self.features.shape[1] or set(labels) != {len(self.features)}:
            raise ValueError(f"features of shape {self.features.shape} for {labels} labels")
        if not 0 < self.num_queries < len(self.features):
            raise ValueError(f"{self.num_queries} of {len(self.features)} tracklets are queries")
        if not (finite := np.isfinite(self.features).all(axis=1)).all():
            raise ValueError(f"the feature of tracklet {self.names[int(finite.argmin())]} is not finite")

    def distances(self) -> np.ndarray | CosineDistances:
        """Distances of every query to every tracklet, float32 [Q, N]; cosines are computed in strips where many."""
        if self.about.distance == "cosine" and 4 * self.num_queries * len(self.features) > _LARGEST_MATRIX:
            return CosineDistances(self.features[:self.num_queries], self.features)
        features = self._normalized()
        return pairwise(self.about.distance, features[:self.num_queries], features)

    def _normalized(self) -> np.ndarray:
        return normalize_for(self.about.distance, self.features)

    def gallery(self, protocol: Protocol) -> np.ndarray:
        """Rows that make up the gallery of a protocol, in its order."""
        q = self.num_queries
        return protocols.gallery_rows(protocol, self.pids[:q], self.pids[q:], self.track_ids[:q], self.track_ids[q:])

    def labels(self, corrections_file: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
        """Corrected and second identities, int64 [N] each; without a file both are as stored."""
        if not corrections_file:
            return self.pids, self.pids
        return corrections.read(corrections_file).apply(self.track_ids, self.pids)

    def score(self, names: str | Sequence[str], corrections_file: str | Path | None = None, max_rank: int = 50,
              reranked: bool = False) -> dict[str, Score]:
        """Scores under protocols (names, or "all"); on the real data sets their sizes are checked.

        `corrections_file` has the corrected labels for the revised protocols. `reranked` is whether to re-rank
        (k-reciprocal) within the gallery of every protocol.
        """
        chosen, labels = protocols.resolve(names, self.about.dataset), self.labels(corrections_file)
        if not reranked:
            galleries = {protocol.name: self.gallery(protocol) for protocol in chosen}
            return self._score(self.distances(), np.arange(len(self.pids)), chosen, labels, max_rank, galleries)
        features, scores = self._normalized(), dict[str, Score]()
        for protocol in chosen:
            rows = self.gallery(protocol)
            distances = rerank(features[:self.num_queries], features[rows])
            scores |= self._score(distances, rows, [protocol], labels, max_rank)
        return scores

    def _score(self, distances: np.ndarray | CosineDistances, rows: np.ndarray, chosen: Sequence[Protocol],
               labels: tuple[np.ndarray, np.ndarray], max_rank: int,
               galleries: dict[str, np.ndarray] | None = None) -> dict[str, Score]:
        """Scores distances of the queries to `rows`, with corrected and second identities."""
        (pids, second), q = labels, self.num_queries
        return score_all(
            distances, self.pids[:q], self.pids[rows], self.camids[:q], self.camids[rows],
            [protocol.name for protocol in chosen], second[:q], second[rows], max_rank,
            check_sizes=protocols.sizes_apply(chosen, self.about.dataset, len(self.pids)),
            q_corrected=pids[:q], g_corrected=pids[rows], galleries=galleries)

    def _people(self, protocol: Protocol, corrections_file: str | Path | None, rows: np.ndarray) -> Identities:
        """Who is seen where by the rules of a protocol, among the queries and these rows."""
        pids, second = self.labels(corrections_file if protocol.revised else None)
        q = self.num_queries
        return Identities(pids[:q], pids[rows], self.camids[:q], self.camids[rows], second[:q], second[rows],
                          protocol.revised)

    def camera_pairs(self, protocol: Protocol, corrections_file: str | Path | None = None) -> CameraPairs:
        """mAP by camera of the query and of the gallery under one protocol's gallery and rules."""
        people = self._people(protocol, corrections_file, np.arange(len(self.pids)))
        return camera_pairs(self.distances(), View(people, self.gallery(protocol)))

    def nearest(self, queries: Sequence[int], protocol: Protocol, corrections_file: str | Path | None = None,
                count: int = 10) -> list[list[Answer]]:
        """Ranked lists of some queries under one protocol, rows that the query ignores included."""
        rows = self.gallery(protocol)
        people = self._people(protocol, corrections_file, rows)
        features, lists = self._normalized(), []
        for query in queries:
            distances = pairwise(self.about.distance, features[[query]], features[rows])[0]
            kinds = np.where(people.g_pids == JUNK, "ignored", "wrong").astype(object)
            right, ignored = people.of_query(query)
            kinds[right], kinds[ignored] = "right", "ignored"
            first = np.argsort(distances, kind="stable")[:count]
            lists.append([Answer(int(rows[i]), float(distances[i]), str(kinds[i])) for i in first])
        return lists
