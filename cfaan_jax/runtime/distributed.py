"""Several processes, on one machine or many, that train and evaluate together.

Every process runs the same program and holds the same state. Only the first one prints and writes, except for
checkpoints, which all write. A decision that all must share is made by the first process, or by all together.
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
_TASK_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_BARRIER_SECONDS = 3600  # the others wait for the first process: re-ranking and the pages of a report
_MESSAGE_BYTES = 4096
_barrier_numbers = itertools.count()  # every barrier needs a name of its own


def join(distributed: str = "auto") -> None:
    """Joins the processes of a run, before anything else is done with JAX; all but the first stop printing.

    "auto" joins if the environment names several processes, by JAX_COORDINATOR_ADDRESS (host:port of the first) with
    JAX_NUM_PROCESSES and JAX_PROCESS_ID, or by the number of tasks of srun or mpirun. "yes" joins as JAX detects the
    processes, needed on TPU slices of several hosts. "no": one process. InputError if the environment does not say
    which processes belong together.
    """
    environment = os.environ
    several = ("JAX_COORDINATOR_ADDRESS" in environment
               or any(int(environment.get(name) or 1) > 1 for name in _TASK_COUNTS))
    if distributed == "no" or distributed == "auto" and not several:
        return
    rank = _rank(environment)
    try:
        jax.distributed.initialize(**rank)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the processes of this run do not find each other ({error}); give each of them "
                         "JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or give one process "
                         "--distributed=no") from error
    if not is_first_process():
        sys.stdout = open(os.devnull, "w")  # closed by the end of the process


def _rank(environment: Mapping[str, str]) -> dict[str, int]:
    """`num_processes` and `process_id`, where the environment names them for JAX."""
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    texts = {argument: environment[name] for argument, name in names.items() if name in environment}
    rank = {argument: int(text) for argument, text in texts.items() if text.isdecimal()}
    if len(rank) < len(texts) or len(rank) == 1 or rank and rank["process_id"] >= rank["num_processes"]:
        shown = ", ".join(f"{names[argument]}={text}" for argument, text in texts.items())
        raise InputError(f"{shown}: give each process JAX_NUM_PROCESSES=N and a JAX_PROCESS_ID of its own, from 0 to "
                         "N - 1")
    return rank


def is_first_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return jax.process_index() == 0


def run_in_first_process(work: Callable[[], Result]) -> Result | None:
    """Runs a function in the first process, while the others wait, and returns its result there, None in the others.

    InputError in every process if the function raises it, or an OSError.
    """
    if jax.process_count() == 1:
        return work()
    result, problem = None, ""
    if is_first_process():
        try:
            result = work()
        except OSError as error:
            problem = describe_os_error(error)
        except InputError as error:
            problem = str(error)
    ocp.multihost.get_barrier_sync_fn()(key=f"cfaan-jax-{next(_barrier_numbers)}", timeout_ms=1000 * _BARRIER_SECONDS)
    if problem := _text_of_first_process(problem):
        raise InputError(problem)
    return result


@contextmanager
def exclusive(path: Path, doing: str) -> Iterator[None]:
    """Holds `lock.exclusive` for all processes of this run: the first takes it; if it is refused, all are refused."""
    with ExitStack() as stack:
        run_in_first_process(lambda: stack.enter_context(lock.exclusive(path, doing)))
        yield


def _text_of_first_process(text: str) -> str:
    padded = text.encode()[:_MESSAGE_BYTES].ljust(_MESSAGE_BYTES, b"\0")
    received = multihost_utils.broadcast_one_to_all(np.frombuffer(padded, np.uint8))
    return np.asarray(received).astype(np.uint8).tobytes().rstrip(b"\0").decode(errors="ignore")


def value_of_first_process(value: float) -> float:
    """The value that the first process passes, in all processes."""
    return value if jax.process_count() == 1 else float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def any_over_processes(flags: np.ndarray) -> np.ndarray:
    """The logical or over all processes of their flags, bool `[N]`."""
    return flags if jax.process_count() == 1 else np.asarray(multihost_utils.process_allgather(flags)).any(axis=0)


def max_over_processes(mesh: Mesh, number: int) -> int | jax.Array:
    """The maximum of the numbers that all processes pass, int32 []; devices compute it in turn, nobody waits here."""
    if jax.process_count() == 1:
        return number
    local = np.full(len(mesh.local_devices), number, np.int32)
    return _maximum(mesh)(jax.make_array_from_process_local_data(batch_sharding(mesh, mesh.size), local))


@lru_cache(maxsize=1)
def _maximum(mesh: Mesh):
    return jax.jit(jnp.max, out_shardings=replicated(mesh))
