"""Data parallelism: the batch is divided over all devices, everything else is replicated.

The devices may belong to several processes, see `distributed`. Each process reads the rows of a batch that its own
devices compute.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cfaan_jax.errors import InputError


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis, "data", with the devices of one process side by side; None: all devices of all processes.

    The compiler decides how a step is divided (`AxisType.Auto`): a mean over the batch, and so batch normalisation, is
    one over all devices.
    """
    devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
    """The sharding of arrays `[B, ...]` with rows divided over the devices; InputError if B is no multiple of them."""
    if batch_size % mesh.size:
        raise InputError(f"a batch of {batch_size} clips does not divide over {mesh.size} devices; it must be a "
                         f"multiple of {mesh.size}: set config.data.identities x config.data.tracklets / "
                         "config.train.accumulate (training), config.eval.batch (evaluation), or use fewer devices")
    return NamedSharding(mesh, PartitionSpec("data"))


def to_microbatches(batch, count: int, mesh: Mesh):
    """Reshapes arrays `[B, ...]` to `[count, B / count, ...]` inside a compiled program, for gradient accumulation.

    Every microbatch is divided over all devices and holds the same rows whatever their number; for that, rows move
    between devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    return jax.tree.map(lambda rows: jax.lax.with_sharding_constraint(
        rows.reshape(count, rows.shape[0] // count, *rows.shape[1:]), sharding), batch)


def local_rows(sharding: NamedSharding, batch_size: int) -> slice:
    """The rows of a batch that the devices of this process compute."""
    slices = [rows.indices(batch_size) for rows, in sharding.addressable_devices_indices_map((batch_size,)).values()]
    return slice(min(start for start, _, _ in slices), max(stop for _, stop, _ in slices))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that lie whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_on_mesh(tree, sharding: NamedSharding):
    """Moves arrays to devices: `local_rows` of a batch by `batch_sharding`, what all processes hold by `replicated`."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    # Unlike `device_put` this compares nothing between the processes.
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), tree)
