"""The networks; `create` builds any of them by name."""

from cfaan_jax.models.layers.precision import COMPUTE
from cfaan_jax.models.registry import HEADS, SYSTEMS, create
from cfaan_jax.models.video_reid import VideoReID

__all__ = ["COMPUTE", "HEADS", "SYSTEMS", "VideoReID", "create"]
