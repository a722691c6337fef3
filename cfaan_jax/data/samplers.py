"""P identities with K tracklets each: the batches of the batch-hard triplet loss."""

from functools import lru_cache

import numpy as np

from cfaan_jax.errors import InputError

EPOCHS = ("identities", "tracklets")


class IdentitySampler:
    """Batches of P identities with K tracklets each, drawn from `pids` int `[N]`; InputError for fewer identities.

    In an epoch of "identities" every identity comes once, in random order. An identity with fewer than K tracklets
    repeats some of them. The identities left over at the end are dropped (MARS: 625 identities, 78 batches of 8).

    In an epoch of "tracklets" every tracklet comes once (AP3D, TCLNet). The tracklets of each identity are divided at
    random into groups of K, and those left over are dropped. Groups come in random order, so a batch may hold an
    identity twice.

    The batches of an epoch are a pure function of (seed, epoch). Classes are numbered by sorted pid, so they do not
    depend on the order of the tracklets. Junk (pid -1) and distractors (pid 0) are never drawn.
    """

    def __init__(self, pids: np.ndarray, identities: int, tracklets: int, seed: int, epoch_of: str = "identities"):
        pids = np.asarray(pids)
        self.pids = np.unique(pids[pids > 0])
        self.labels = np.searchsorted(self.pids, pids)
        self._members = [np.flatnonzero(pids == pid) for pid in self.pids]
        self.identities, self.tracklets, self.seed = identities, tracklets, seed
        if len(self.pids) < identities:
            raise InputError(f"config.data.identities={identities}, but the training split has {len(self.pids)} "
                             f"identities; set --config.data.identities to at most {len(self.pids)}")
        counts = np.array([len(members) for members in self._members])
        self._groups = np.maximum(counts // tracklets, 1) if epoch_of == "tracklets" else np.ones_like(counts)
        self.epoch = lru_cache(maxsize=2)(self._draw_epoch)

    @property
    def num_classes(self) -> int:
        return len(self.pids)

    @property
    def steps_per_epoch(self) -> int:
        return int(self._groups.sum()) // self.identities

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        """The batches of an epoch: int `[steps, P * K]`, positions of tracklets, K of one identity in a row."""
        rng = np.random.default_rng((0, self.seed, epoch))  # the loader draws from (1, seed, step)
        classes = np.repeat(np.arange(self.num_classes), self._groups)
        order = classes[rng.permutation(len(classes))[:self.steps_per_epoch * self.identities]]
        groups: dict[int, list[np.ndarray]] = {}
        drawn = []
        for label in order:
            if label not in groups:
                members = self._members[label]
                chosen = rng.choice(members, self._groups[label] * self.tracklets, len(members) < self.tracklets)
                groups[label] = list(chosen.reshape(-1, self.tracklets))
            drawn.append(groups[label].pop())
        return np.concatenate(drawn).reshape(self.steps_per_epoch, -1)

    def batch(self, step: int) -> np.ndarray:
        """The batch of a step, counted from the start of training: int `[P * K]`, positions of tracklets."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.epoch(epoch)[place]
