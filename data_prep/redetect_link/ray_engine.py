"""Re-Detect and Link in the processes of a Ray cluster, on one machine or several."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2

from cfaan_jax.data.records import TrackletRecord
from cfaan_jax.errors import InputError
from data_prep.redetect_link import packing
from data_prep.redetect_link.clock import Clock
from data_prep.redetect_link.tracklet import Tracklet

_QUEUED = 2  # tracklets per worker


class _Worker:
    """One process with its own detector and linker."""

    def __init__(self, recipe: tuple):
        cv2.setNumThreads(1)
        self._pack = packing.create(*recipe)

    def work(self, tracklet: Tracklet) -> tuple[TrackletRecord, dict]:
        """Returns the record of a tracklet, and the time of its stages."""
        return self._pack(tracklet), self._pack.clock.take()


def in_order_by_ray(recipe: tuple, tracklets: Iterable[Tracklet], workers: int, gpus: float,
                    clock: Clock) -> Iterator[TrackletRecord]:
    """Yields the records of tracklets in their order, whatever the number of workers.

    Ray starts a worker that dies again and repeats its unfinished tracklets. Every machine must see the data set, and
    the files of detector and linker, under the same paths.

    Args:
        recipe: the arguments of `packing.create`.
        workers: number of processes.
        gpus: share of a GPU per process.
        clock: takes the times of the processes.

    Raises:
        InputError: Ray is not installed, too few GPUs, or what `packing` raises.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--engine=ray needs Ray: pip install -r data_prep/requirements-ray.txt") from None
    checkout = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [checkout, os.environ.get("PYTHONPATH", "")]))
    # Ray would replace the handler of SIGTERM, and log errors that are raised here anyway.
    sigterm = signal.getsignal(signal.SIGTERM)
    ray.init(runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False, ignore_reinit_error=True,
             include_dashboard=False)
    signal.signal(signal.SIGTERM, sigterm)
    pending: deque = deque()
    try:
        available = ray.cluster_resources().get("GPU", 0)
        if gpus * workers > available:
            raise InputError(f"--gpus_per_worker={gpus} with --workers={workers}: the cluster has {available:g} GPUs, "
                             "and some workers would never start; choose a smaller share or fewer workers")
        worker = ray.remote(num_cpus=0, num_gpus=gpus, scheduling_strategy="SPREAD", max_restarts=-1,
                            max_task_retries=-1)(_Worker)
        pool = [worker.remote(recipe) for _ in range(workers)]
        for number, tracklet in enumerate(tracklets):
            pending.append(pool[number % workers].work.remote(tracklet))
            if len(pending) >= _QUEUED * workers:
                yield _record(ray, pending.popleft(), clock)
        while pending:
            yield _record(ray, pending.popleft(), clock)
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, sigterm)


def _record(ray, result, clock: Clock) -> TrackletRecord:
    try:
        record, times = ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # as in a thread
    clock.add(times)
    return record
