"""P identities with K tracklets each: the batches of the batch-hard triplet loss."""

from functools import lru_cache

import numpy as np

from cfaan_jax.errors import InputError


class IdentitySampler:
    """Batches of P identities with K tracklets each.

    In an epoch every identity comes once, in random order; an identity with fewer than K tracklets gives some of them
    more than once; the identities left over at the end are dropped (MARS: 625 identities, 78 batches of 8). The
    batches of an epoch are a pure function of (seed, epoch).

    Classes are numbered by sorted pid, so that they do not depend on the order of the tracklets. Junk (pid -1) and
    distractors (pid 0) are nobody's identity and are never drawn.

    Args:
        pids: int `[N]`, identity of every tracklet of the training split.
        identities: P.
        tracklets: K.
        seed: of the run.

    Raises:
        InputError: fewer than P identities.
    """

    def __init__(self, pids: np.ndarray, identities: int, tracklets: int, seed: int):
        pids = np.asarray(pids)
        self.pids = np.unique(pids[pids > 0])
        self.labels = np.searchsorted(self.pids, pids)
        self._members = [np.flatnonzero(pids == pid) for pid in self.pids]
        self.identities, self.tracklets, self.seed = identities, tracklets, seed
        if len(self.pids) < identities:
            raise InputError(f"config.data.identities={identities}, but the training split has {len(self.pids)} "
                             f"identities; set --config.data.identities to at most {len(self.pids)}")
        self.epoch = lru_cache(maxsize=2)(self._draw_epoch)

    @property
    def num_classes(self) -> int:
        return len(self.pids)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.pids) // self.identities

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        """The batches of an epoch: int `[steps, P * K]`, positions of tracklets, those of an identity side by side."""
        rng = np.random.default_rng((0, self.seed, epoch))  # the loader draws from (1, seed, step)
        order = rng.permutation(len(self.pids))[:self.steps_per_epoch * self.identities]
        drawn = [rng.choice(self._members[label], self.tracklets, replace=len(self._members[label]) < self.tracklets)
                 for label in order]
        return np.concatenate(drawn).reshape(self.steps_per_epoch, -1)

    def batch(self, step: int) -> np.ndarray:
        """The batch of a step, counted from the start of training: int `[P * K]`, positions of tracklets."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[place]
