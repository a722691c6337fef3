"""The networks; `create` builds any of them by name."""

from cfaan_jax.models.systems import SYSTEMS
from cfaan_jax.models.video_reid import VideoReID, create

__all__ = ["SYSTEMS", "VideoReID", "create"]
