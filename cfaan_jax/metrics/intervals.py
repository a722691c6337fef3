"""Bootstrap intervals of mAP and rank-1, over identities."""

import numpy as np

from cfaan_jax.metrics import protocols
from cfaan_jax.metrics.scores import Score


def intervals(score: Score, q_pids: np.ndarray, samples: int = 2000, level: float = 0.95,
              seed: int = 0) -> dict[str, tuple[float, float]]:
    """Intervals of "mAP" and "rank1" as (low, high): `level` is the share of the bootstrap samples inside.

    Samples draw identities with replacement, not queries, because the queries of one person succeed and fail together.
    `q_pids` are those of all queries, int [Q].
    """
    right = (score.first == 1).astype(float)
    values, queries = np.stack([score.ap, right]), score.valid
    if protocols.get(score.protocol).every_query:  # a query without a match counts as zero
        every_query = np.zeros((2, score.num_queries))
        every_query[:, queries] = values
        values, queries = every_query, np.arange(score.num_queries)
    _, person = np.unique(np.asarray(q_pids)[queries], return_inverse=True)
    people = person.max() + 1
    sums = np.stack([np.bincount(person, weights=row, minlength=people) for row in values])
    counts = np.bincount(person, minlength=people)
    drawn = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), samples)
    means = (drawn @ sums.T) / (drawn @ counts)[:, None]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: (float(low[k]), float(high[k])) for k, name in enumerate(("mAP", "rank1"))}
