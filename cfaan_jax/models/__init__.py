"""The networks; `create` builds any of them by name."""

from cfaan_jax.models.systems import SYSTEMS
from cfaan_jax.models.video_reid import HEADS, VideoReID, create

__all__ = ["HEADS", "SYSTEMS", "VideoReID", "create"]
