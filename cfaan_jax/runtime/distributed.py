"""Several processes, on one machine or many, that train and evaluate together.

Every process runs the same program and holds the same state. The first one alone prints and writes, but for
checkpoints, which all write. Whatever the others must decide in the same way is decided by the first, or by all.
"""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from cfaan_jax.errors import InputError
from cfaan_jax.runtime import lock
from cfaan_jax.runtime.command import describe_os_error
from cfaan_jax.runtime.sharding import batch_sharding, replicated

Result = TypeVar("Result")

# How many processes a launcher says that it has started: srun, mpirun.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_LONGEST_WORK = 3600  # seconds that the others wait for the first process: re-ranking and the pages of a report
_LONGEST_MESSAGE = 4096  # bytes
_waits = itertools.count()  # every wait needs a name of its own


def join(distributed: str = "auto") -> None:
    """Joins the processes of a run, before anything else is done with JAX; all but the first print no more.

    Args:
        distributed: "auto": if the environment tells of several processes: JAX_COORDINATOR_ADDRESS (host:port of the
            first process) with JAX_NUM_PROCESSES and JAX_PROCESS_ID, or srun's or mpirun's number of tasks. "yes": as
            JAX finds them, which is needed on TPU slices of several hosts. "no": this process is alone.

    Raises:
        InputError: the environment does not say who belongs together.
    """
    if distributed == "no" or distributed == "auto" and not _several(os.environ):
        return
    place = _place(os.environ)
    try:
        jax.distributed.initialize(**place)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the processes of this run do not find each other ({error}); give each of them "
                         "JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or --distributed=no "
                         "to one that is alone") from error
    if not is_first_process():
        sys.stdout = open(os.devnull, "w")  # closed by the end of the process


def _several(environment: Mapping[str, str]) -> bool:
    return ("JAX_COORDINATOR_ADDRESS" in environment
            or any(int(environment.get(name) or 1) > 1 for name in _COUNTS))


def _place(environment: Mapping[str, str]) -> dict[str, int]:
    """How many processes there are and which this one is, where the environment says so in JAX's own words."""
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    given = {argument: environment[name] for argument, name in names.items() if name in environment}
    place = {argument: int(value) for argument, value in given.items() if value.isdecimal()}
    if len(place) < len(given) or len(place) == 1 or place and place["process_id"] >= place["num_processes"]:
        shown = ", ".join(f"{names[argument]}={value}" for argument, value in given.items())
        raise InputError(f"{shown}: give each process JAX_NUM_PROCESSES=N and a JAX_PROCESS_ID of its own, from 0 to "
                         "N - 1")
    return place


def is_first_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def run_on_first_process(work: Callable[[], Result]) -> Result | None:
    """Does something in the first process, while the others wait.

    Returns:
        what the work gives; None in the others.
    Raises:
        InputError: in every process, if the work raises it, or an OSError.
    """
    result, problem = None, ""
    if is_first_process():
        try:
            result = work()
        except (InputError, OSError) as error:
            if jax.process_count() == 1:
                raise
            problem = describe_os_error(error) if isinstance(error, OSError) else str(error)
    if jax.process_count() > 1:
        ocp.multihost.get_barrier_sync_fn()(key=f"cfaan-jax-{next(_waits)}", timeout_ms=1000 * _LONGEST_WORK)
        problem = _from_first(problem)
    if problem:
        raise InputError(problem)
    return result


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Holds `lock.exclusive` for all processes of this run: the first takes it; if it is refused, all are refused."""
    with ExitStack() as held:
        run_on_first_process(lambda: held.enter_context(lock.exclusive(path, doing)))
        yield


def _from_first(text: str) -> str:
    """The text that the first process gives."""
    padded = text.encode()[:_LONGEST_MESSAGE].ljust(_LONGEST_MESSAGE, b"\0")
    sent = multihost_utils.broadcast_one_to_all(np.frombuffer(padded, np.uint8))
    return np.asarray(sent).astype(np.uint8).tobytes().rstrip(b"\0").decode(errors="ignore")


def value_of_first_process(value: float) -> float:
    """The value that the first process gives."""
    return value if jax.process_count() == 1 else float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def any_over_processes(flags: np.ndarray) -> np.ndarray:
    """Where any of the processes says so, bool `[N]`, given its own flags, bool `[N]`."""
    return flags if jax.process_count() == 1 else np.asarray(multihost_utils.process_allgather(flags)).any(axis=0)


def max_over_processes(mesh: Mesh, number: int) -> jax.Array:
    """The highest of the numbers that all processes give, int32 []; the devices find it when their turn comes."""
    own = np.full(len(mesh.local_devices), number, np.int32)
    return _maximum(mesh)(jax.make_array_from_process_local_data(batch_sharding(mesh, mesh.size), own))


@lru_cache(maxsize=1)
def _maximum(mesh: Mesh):
    return jax.jit(jnp.max, out_shardings=replicated(mesh))
