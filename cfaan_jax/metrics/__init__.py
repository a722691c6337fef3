"""CMC and mAP under the named protocols of MARS and DukeMTMC-VideoReID, in NumPy."""

from cfaan_jax.metrics.reranking import rerank
from cfaan_jax.metrics.scores import Score, score, score_all

__all__ = ["Score", "rerank", "score", "score_all"]
