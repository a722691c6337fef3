"""A finished search: features of queries and gallery with who they show, ready to be scored under any protocol."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cfaan_jax.errors import InputError
from cfaan_jax.metrics import corrections, protocols
from cfaan_jax.metrics.big_gallery import CosineDistances
from cfaan_jax.metrics.cameras import CameraPairs, camera_pairs
from cfaan_jax.metrics.protocols import JUNK, Protocol
from cfaan_jax.metrics.ranking import Identities, View
from cfaan_jax.metrics.reranking import rerank
from cfaan_jax.metrics.scores import Score, score_all
from cfaan_jax.runtime.files import atomic_file, check_types, parse_json, read_npz

DISTANCES = ("cosine", "euclidean")
_LARGEST_MATRIX = 1 << 30  # bytes


def of_unit_length(features: np.ndarray) -> np.ndarray:
    """Features divided by their lengths, float32 [N, D]; a feature of zeros stays one."""
    # In float64, where squares of very large or small numbers fit.
    squares = np.einsum("nd,nd->n", features, features, dtype=np.float64)[:, None]
    return (features / np.sqrt(np.where(squares > 0, squares, 1))).astype(np.float32)


def compared(features: np.ndarray, distance: str) -> np.ndarray:
    """Features [N, D] as one of `DISTANCES` compares them: of length 1 where the cosine decides."""
    return of_unit_length(features) if distance == "cosine" else features


def between(one: np.ndarray, other: np.ndarray, distance: str) -> np.ndarray:
    """Minus the cosine, or the squared Euclidean distance, of all pairs of rows that `compared` gave."""
    products = one @ other.T
    if distance == "cosine":
        return -products
    return np.square(one).sum(1)[:, None] + np.square(other).sum(1)[None] - 2 * products


@dataclass(frozen=True)
class About:
    """What a figure made from these features must say beside itself.

    Attributes:
        dataset, note: name of the data set, and the caveat that goes with it ("" = none).
        aligned: whether the tracklets went through Re-Detect and Link.
        model: name of the network; seed: of its training, None where nobody knows it.
        weights: "last", "best" or "untrained", or where they come from.
        clips: which clips of a tracklet were averaged.
        distance: by which features are compared, one of `DISTANCES`.
        left_out: test tracklets that are missing here because they are damaged.
        whitened: whether the features are fitted to these tracklets, see `whitening`.
    """

    dataset: str
    note: str
    aligned: bool
    model: str
    seed: int | None
    weights: str
    clips: str
    distance: str = "cosine"
    left_out: int = 0
    whitened: bool = False

    def line(self) -> str:
        """One line of text."""
        tracklets = f"{'aligned' if self.aligned else 'raw'} tracklets of {self.dataset}"
        line = f"{self.model}, {tracklets}, weights {self.weights}, clips {self.clips}"
        line += ", whitened by the clips within tracklets" if self.whitened else ""
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
    """N test tracklets: first the queries, then the rest, each part in the order of the data set's list.

    Attributes:
        features: float32 [N, D], not normalised.
        num_queries: Q.
        names: [N]; track_ids, pids, camids: int64 [N], as stored.
        about: where the features come from.
    """

    features: np.ndarray
    num_queries: int
    names: np.ndarray
    track_ids: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    about: About

    def save(self, path: Path) -> None:
        """Writes everything to one .npz file."""
        with atomic_file(path) as file:
            np.savez(file, features=self.features, num_queries=self.num_queries, names=self.names,
                     track_ids=self.track_ids, pids=self.pids, camids=self.camids, about=json.dumps(asdict(self.about)))

    @classmethod
    def load(cls, path: str | Path) -> "Search":
        """Reads what `save` wrote; anything else, and features that are not finite, are an `InputError`."""
        try:
            arrays = read_npz(path)
            if missing := sorted({"features", "num_queries", "about"} - set(arrays)):
                raise ValueError(f"no array '{missing[0]}'")
            if arrays["num_queries"].dtype.kind != "i":
                raise ValueError(f"num_queries of {arrays['num_queries'].dtype}")
            found = cls(**arrays | {"num_queries": int(arrays["num_queries"]),
                                    "about": About(**parse_json(str(arrays["about"])))})
            found._check()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: no readable features ({error}); --mode=evaluate writes them") from error
        return found

    def without(self, rows: np.ndarray) -> "Search":
        """The same search without some tracklets.

        Args:
            rows: bool [N], which ones.
        """
        kept = {name: getattr(self, name)[~rows] for name in ("features", "names", "track_ids", "pids", "camids")}
        return replace(self, num_queries=int((~rows[:self.num_queries]).sum()), **kept)

    def _check(self) -> None:
        """ValueError for what `save` does not write: other types, arrays that do not fit, infinite numbers."""
        kinds = {"features": "f4", "names": "U", "track_ids": "i", "pids": "i", "camids": "i"}
        for name, kind in kinds.items():
            array = getattr(self, name)
            if not array.dtype.str[1:].startswith(kind) or array.ndim != 1 + (name == "features"):
                raise ValueError(f"{name} of {array.dtype} and shape {list(array.shape)}")
        check_types(self.about)
        if self.about.distance not in DISTANCES or self.about.left_out < 0:
            raise ValueError(f"distance {self.about.distance}, {self.about.left_out} left out")
        labels = [len(getattr(self, name)) for name in ("names", "track_ids", "pids", "camids")]
        if self.features.ndim != 2 or not self.features.shape[1] or set(labels) != {len(self.features)}:
            raise ValueError(f"features of shape {self.features.shape} for {labels} labels")
        if not 0 < self.num_queries < len(self.features):
            raise ValueError(f"{self.num_queries} of {len(self.features)} tracklets are queries")
        if not (finite := np.isfinite(self.features).all(axis=1)).all():
            raise ValueError(f"the feature of tracklet {self.names[int(finite.argmin())]} is not finite")

    def distances(self) -> np.ndarray | CosineDistances:
        """Distances of every query to every tracklet, float32 [Q, N], see `_between`; cosines in strips where large."""
        if self.about.distance == "cosine" and 4 * self.num_queries * len(self.features) > _LARGEST_MATRIX:
            return CosineDistances(self.features[:self.num_queries], self.features)
        features = self._compared()
        return self._between(features[:self.num_queries], features)

    def unit_features(self) -> np.ndarray:
        """Features of length 1, float32 [N, D]; a feature of zeros stays one."""
        return of_unit_length(self.features)

    def _compared(self) -> np.ndarray:
        """The features as they are compared: of length 1 where the cosine decides."""
        return compared(self.features, self.about.distance)

    def _between(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Distances of all pairs of rows that `_compared` gave."""
        return between(one, other, self.about.distance)

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

        Args:
            names: of protocols.
            corrections_file: corrected labels for the revised ones.
            max_rank: length of the CMC curve.
            reranked: by k-reciprocal re-ranking, within the gallery of each protocol.
        """
        chosen, q = protocols.resolve(names, self.about.dataset), self.num_queries
        pids, second = self.labels(corrections_file)
        if reranked:
            return {protocol.name: self._score_reranked(protocol, pids, second, max_rank) for protocol in chosen}
        return score_all(
            self.distances(), self.pids[:q], self.pids, self.camids[:q], self.camids,
            [protocol.name for protocol in chosen], second[:q], second, max_rank,
            check_sizes=protocols.sizes_apply(chosen, self.about.dataset, len(self.pids)),
            q_corrected=pids[:q], g_corrected=pids,
            galleries={protocol.name: self.gallery(protocol) for protocol in chosen})

    def _score_reranked(self, protocol: Protocol, pids: np.ndarray, second: np.ndarray, max_rank: int) -> Score:
        rows, q, features = self.gallery(protocol), self.num_queries, self._compared()
        return score_all(
            rerank(features[:q], features[rows]), self.pids[:q], self.pids[rows], self.camids[:q], self.camids[rows],
            [protocol.name], second[:q], second[rows], max_rank, q_corrected=pids[:q], g_corrected=pids[rows],
            check_sizes=protocols.sizes_apply([protocol], self.about.dataset, len(self.pids)))[protocol.name]

    def _people(self, protocol: Protocol, corrections_file: str | Path | None, rows: np.ndarray) -> Identities:
        """Who a protocol says is seen where, among the queries and these rows."""
        pids, second = self.labels(corrections_file if protocol.revised else None)
        q = self.num_queries
        return Identities(pids[:q], pids[rows], self.camids[:q], self.camids[rows], second[:q], second[rows],
                          protocol.revised)

    def camera_pairs(self, protocol: Protocol, corrections_file: str | Path | None = None) -> CameraPairs:
        """mAP by camera of the query and of the gallery under one protocol's gallery and rules."""
        people = self._people(protocol, corrections_file, np.arange(len(self.pids)))
        return camera_pairs(self.distances(), View.of(people, self.gallery(protocol)))

    def nearest(self, queries: Sequence[int], protocol: Protocol, corrections_file: str | Path | None = None,
                count: int = 10) -> list[list[Answer]]:
        """Ranked lists of some queries under one protocol, rows that the query ignores included."""
        rows = self.gallery(protocol)
        people = self._people(protocol, corrections_file, rows)
        features, lists = self._compared(), []
        for query in queries:
            distances = self._between(features[[query]], features[rows])[0]
            kinds = np.where(people.g_pids == JUNK, "ignored", "wrong").astype(object)
            relevant, ignored = people.of_query(query)
            kinds[relevant], kinds[ignored] = "right", "ignored"
            first = np.argsort(distances, kind="stable")[:count]
            lists.append([Answer(int(rows[i]), float(distances[i]), str(kinds[i])) for i in first])
        return lists
