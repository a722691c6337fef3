"""The networks; `create` builds any of them by name."""

from cfaan_jax.models.precision import COMPUTE
from cfaan_jax.models.systems import SYSTEMS
from cfaan_jax.models.video_reid import HEADS, VideoReID, create

__all__ = ["COMPUTE", "HEADS", "SYSTEMS", "VideoReID", "create"]
