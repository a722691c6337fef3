"""Which queries a report shows, and what was found for them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfaan_jax.metrics import Score, protocols
from cfaan_jax.metrics.search import Answer, Search
from cfaan_jax.report.frames import spread

_ANSWERS = 10


@dataclass(frozen=True)
class Listed:
    """One query and what was found for it.

    Attributes:
        row: of the query in the search.
        ap: average precision.
        first: rank of the first right answer, from 1.
        answers: the nearest tracklets, those that the query ignores included.
    """

    row: int
    ap: float
    first: int
    answers: list[Answer]


@dataclass(frozen=True)
class Chosen:
    """Queries by rising average precision: the worst ones, and typical ones spread evenly over the others."""

    worst: list[Listed]
    typical: list[Listed]

    def few(self, count: int) -> "Chosen":
        """At most `count` of them, chosen in the same way."""
        worst = self.worst[:(count + 1) // 2]
        return Chosen(worst, spread(self.typical, count - len(worst)))

    def all(self) -> list[Listed]:
        """Worst first."""
        return [*self.worst, *self.typical]


def choose(found: Search, score: Score, corrections: str | Path | None, count: int) -> Chosen:
    """Chooses `count` valid queries, one half the worst, and ranks the gallery for them.

    Args:
        found: features and labels.
        score: of the protocol by whose gallery and rules the lists are made.
        corrections: corrected labels for the revised protocols.
        count: at least 1; all queries are taken where there are no more.
    """
    order = np.argsort(score.ap, kind="stable").tolist()
    worst = (min(count, len(order)) + 1) // 2
    places = order[:worst] + spread(order[worst:], count - worst)
    answers = found.nearest(score.valid[places].tolist(), protocols.get(score.protocol), corrections, _ANSWERS)
    listed = [Listed(int(score.valid[i]), float(score.ap[i]), int(score.first[i]), each)
              for i, each in zip(places, answers, strict=True)]
    return Chosen(listed[:worst], listed[worst:])


def who(found: Search, row: int) -> str:
    """Whom a tracklet shows and under which camera."""
    pid = int(found.pids[row])
    name = {protocols.JUNK: "junk", protocols.DISTRACTOR: "distractor"}.get(pid, f"id {pid}")
    return f"{name}, cam {found.camids[row]}"


def near(found: Search, answer: Answer) -> str:
    """The distance of an answer from its query, never below 0."""
    if found.about.distance == "cosine":
        return f"{max(0.0, 1 + answer.distance):.3f}"
    return f"{max(0.0, answer.distance):.1f}"


def near_name(found: Search) -> str:
    """What `near` gives."""
    return "1 − cos" if found.about.distance == "cosine" else "d²"
