"""How far a figure might be off: bootstrap intervals over identities."""

import numpy as np

from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.scores import Score


def intervals(score: Score, q_pids: np.ndarray, samples: int = 2000, level: float = 0.95,
              seed: int = 0) -> dict[str, tuple[float, float]]:
    """Intervals of mAP and rank-1 by drawing identities, not queries: those of one person succeed and fail together.

    Args:
        score: under any protocol.
        q_pids: identities of all queries, int [Q].
        samples: how often as many identities as there are, with repetition, are drawn.
        level: share of the samples inside the interval.
        seed: of the drawing.

    Returns:
        {"mAP": (low, high), "rank1": (low, high)}.
    """
    right = (score.first == 1).astype(float)
    values, queries = np.stack([score.ap, right]), score.valid
    if protocols.get(score.protocol).every_query:  # those without a match count as zero
        everybody = np.zeros((2, score.num_queries))
        everybody[:, queries] = values
        values, queries = everybody, np.arange(score.num_queries)
    _, person = np.unique(np.asarray(q_pids)[queries], return_inverse=True)
    people = person.max() + 1
    sums = np.stack([np.bincount(person, weights=row, minlength=people) for row in values])
    counts = np.bincount(person, minlength=people)
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), samples)
    means = (drawn @ sums.T) / (drawn @ counts)[:, None]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low[k]), float(high[k])) for k, name in enumerate(("mAP", "rank1"))}
