"""Re-Detect and Link in the processes of a Ray cluster, on one machine or many."""

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

_AHEAD = 2  # tracklets that wait for each worker


class _Worker:
    """One process with its own detector and linker."""

    def __init__(self, recipe: tuple):
        cv2.setNumThreads(1)
        self._pack = packing.create(*recipe)

    def work(self, tracklet: Tracklet) -> tuple[TrackletRecord, dict]:
        """The record of a tracklet, and the time that its stages took."""
        return self._pack(tracklet), self._pack.clock.take()


def in_order_by_ray(recipe: tuple, tracklets: Iterable[Tracklet], workers: int, gpus: float,
                    clock: Clock) -> Iterator[TrackletRecord]:
    """Yields the records of tracklets in their order, whatever the number of workers.

    A worker that dies is started again, and gets the tracklets again that it had not finished. Every machine must see
    the data set, and the files of detector and linker, under the same paths.

    Args:
        recipe: the arguments of `packing.create`.
        workers: number of processes.
        gpus: share of a GPU that each holds.
        clock: gets their times.

    Raises:
        InputError: Ray is not installed, or what the work itself raises.
    """
    try:
        import ray
    except ImportError:
        raise InputError("--engine=ray needs Ray: pip install -r data_prep/requirements-ray.txt") from None
    here = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    # Ray would take SIGTERM for itself, and show errors twice that the work here raises anyway.
    on_stop = signal.getsignal(signal.SIGTERM)
    ray.init(runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False, ignore_reinit_error=True,
             include_dashboard=False)
    signal.signal(signal.SIGTERM, on_stop)
    waiting: deque = deque()
    try:
        pool = _start(ray, recipe, workers, gpus)
        for number, tracklet in enumerate(tracklets):
            waiting.append(pool[number % workers].work.remote(tracklet))
            if len(waiting) >= _AHEAD * workers:
                yield _finished(ray, waiting.popleft(), clock)
        while waiting:
            yield _finished(ray, waiting.popleft(), clock)
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, on_stop)


def _start(ray, recipe: tuple, workers: int, gpus: float) -> list:
    """The workers, which are restarted when they die."""
    there = ray.cluster_resources().get("GPU", 0)
    if gpus * workers > there:
        raise InputError(f"--gpus_per_worker={gpus} for --workers={workers}: the cluster has {there:g} GPUs, and "
                         "workers would wait for more for ever; give a smaller share, or fewer workers")
    worker = ray.remote(num_cpus=0, num_gpus=gpus, scheduling_strategy="SPREAD", max_restarts=-1,
                        max_task_retries=-1)(_Worker)
    return [worker.remote(recipe) for _ in range(workers)]


def _finished(ray, result, clock: Clock) -> TrackletRecord:
    try:
        record, times = ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error  # as if the work had been done here
    clock.add(times)
    return record
