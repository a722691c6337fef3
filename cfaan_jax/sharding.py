"""Data parallelism: the batch is divided over all devices, everything else lies whole on each."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cfaan_jax.errors import InputError


def data_mesh() -> Mesh:
    """All devices in a row, along the axis "data".

    The compiler decides how a step is divided (`AxisType.Auto`): a mean over the batch, and so batch normalisation, is
    one over all devices.
    """
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def over_batch(mesh: Mesh, batch_size: int) -> NamedSharding:
    """How arrays `[B, ...]` are divided over the devices.

    Raises:
        InputError: the devices do not divide the batch.
    """
    if batch_size % mesh.size:
        raise InputError(f"a batch of {batch_size} clips does not divide over {mesh.size} devices; choose "
                         "config.data.identities x config.data.tracklets (training) or config.eval.batch (evaluation) "
                         f"as a multiple of {mesh.size}, or let the program see fewer devices")
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())
