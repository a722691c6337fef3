"""Which queries a report shows, and their ranked lists."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report.frames import spread

_ANSWERS = 10


@dataclass(frozen=True)
class RankedQuery:
    """One query and its ranked list."""

    row: int  # in the search
    ap: float
    first: int  # rank of the first right answer, from 1
    answers: list[Answer]  # the nearest tracklets, including those that the query ignores


@dataclass(frozen=True)
class Selection:
    """Queries by rising average precision: the worst ones, and typical ones spread evenly over the others."""

    worst: list[RankedQuery]
    typical: list[RankedQuery]

    def few(self, count: int) -> "Selection":
        """At most `count` of them, selected in the same way."""
        worst = self.worst[:(count + 1) // 2]
        return Selection(worst, spread(self.typical, count - len(worst)))

    def all(self) -> list[RankedQuery]:
        """Worst first."""
        return [*self.worst, *self.typical]


def select(search: Search, score: Score, corrections: str | Path | None, count: int) -> Selection:
    """Selects `count` valid queries, one half the worst, and ranks the gallery of the score's protocol for them.

    All queries are taken if there are fewer. `corrections` has the labels for the revised protocols.
    """
    order = np.argsort(score.ap, kind="stable").tolist()
    worst = (min(count, len(order)) + 1) // 2
    places = order[:worst] + spread(order[worst:], count - worst)
    lists = search.nearest(score.valid[places].tolist(), protocols.get(score.protocol), corrections, _ANSWERS)
    queries = [RankedQuery(int(score.valid[i]), float(score.ap[i]), int(score.first[i]), answers)
               for i, answers in zip(places, lists, strict=True)]
    return Selection(queries[:worst], queries[worst:])


def label_text(search: Search, row: int) -> str:
    """Identity and camera of a tracklet."""
    pid = int(search.pids[row])
    name = {protocols.JUNK: "junk", protocols.DISTRACTOR: "distractor"}.get(pid, f"id {pid}")
    return f"{name}, cam {search.camids[row]}"


def distance_text(search: Search, answer: Answer) -> str:
    """The distance of an answer from its query, never below 0, in the unit of `distance_name`."""
    if search.about.distance == "cosine":
        return f"{max(0.0, 1 + answer.distance):.3f}"
    return f"{max(0.0, answer.distance):.1f}"


def distance_name(search: Search) -> str:
    """Formula of the distance."""
    return "1 − cos" if search.about.distance == "cosine" else "d²"
