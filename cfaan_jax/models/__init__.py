"""The networks; `create` builds any of them by name."""

from cfaan_jax.models.layers.precision import COMPUTE
from cfaan_jax.models.registry import SYSTEMS
from cfaan_jax.models.video_reid import HEADS, VideoReID, create

__all__ = ["COMPUTE", "HEADS", "SYSTEMS", "VideoReID", "create"]
