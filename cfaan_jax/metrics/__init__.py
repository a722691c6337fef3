"""CMC and mAP under the named protocols of MARS and DukeMTMC-VideoReID, in NumPy."""

from cfaan_jax.metrics.scores import Score, score, score_all

__all__ = ["Score", "score", "score_all"]
