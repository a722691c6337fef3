"""Data parallelism: the batch is divided over all devices, everything else lies whole on each.

The devices may belong to several processes, see `distributed`. Each of them reads the rows of a batch that its own
devices work on.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cfaan_jax.errors import InputError


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Devices in a row, along the axis "data"; those of one process lie side by side. None = all of all processes.

    The compiler decides how a step is divided (`AxisType.Auto`): a mean over the batch, and so batch normalisation, is
    one over all devices.
    """
    row = sorted(jax.devices() if devices is None else devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(row), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """How arrays `[B, ...]` are divided over the devices.

    Raises:
        InputError: the devices do not divide the batch.
    """
    if batch_size % mesh.size:
        raise InputError(f"a batch of {batch_size} clips does not divide over {mesh.size} devices; choose "
                         "config.data.identities x config.data.tracklets / config.train.accumulate (training) or "
                         f"config.eval.batch (evaluation) as a multiple of {mesh.size}, or let the program see fewer "
                         "devices")
    return NamedSharding(mesh, PartitionSpec("data"))


def to_microbatches(batch, parts: int, mesh: Mesh):
    """Inside a compiled program: arrays `[B, ...]` as `[parts, B / parts, ...]`, each part divided over all devices.

    A part holds the same rows whatever the number of devices; for that, rows go from one device to another.
    """
    where = NamedSharding(mesh, PartitionSpec(None, "data"))
    return jax.tree.map(lambda rows: jax.lax.with_sharding_constraint(
        rows.reshape(parts, rows.shape[0] // parts, *rows.shape[1:]), where), batch)


def local_rows(sharding: NamedSharding, batch_size: int) -> slice:
    """The rows of a batch that the devices of this process work on."""
    parts = [rows.indices(batch_size) for rows, in sharding.addressable_devices_indices_map((batch_size,)).values()]
    return slice(min(start for start, _, _ in parts), max(stop for _, stop, _ in parts))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_on_mesh(tree, sharding: NamedSharding):
    """Brings a pytree of arrays to the devices.

    Args:
        tree: of a batch the rows of `local_rows`; what is replicated, whole and the same in every process.
        sharding: `batch_sharding` or `replicated`.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    # Unlike `device_put` this compares nothing between the processes.
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)
