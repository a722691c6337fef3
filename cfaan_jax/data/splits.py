"""The records of an experiment, opened as its config says."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cfaan_jax.data.reading import ClipReader
from cfaan_jax.data.reading_processes import ReadingProcesses
from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import DamagedRecord, InputError
from cfaan_jax.runtime import distributed
from cfaan_jax.runtime.progress import Progress

ON_BAD_RECORD = ("error", "skip")


def open_split(directory: str | Path, split: str, data: ConfigDict) -> RecordSet:
    """The tracklets of a split; with `on_bad_record="skip"` those that are whole, in all processes the same.

    Everything is read and decoded for that once, before the work, so that what is left out depends on the files alone.

    Args:
        directory: of the records, or their address.
        split: one of `records.SPLITS`.
        data: `on_bad_record` and `workers` are read.

    Raises:
        InputError: see `RecordSet.open`; or no tracklet is whole.
    """
    records = RecordSet.open(directory, split)
    return records.only(_whole(str(directory), split, data.workers)) if data.on_bad_record == "skip" else records


def clip_reader(records: RecordSet, data: ConfigDict) -> ClipReader | ReadingProcesses:
    """What reads the clips of training, and reads the records into memory first where `data.cache` says so.

    Memory is nothing that processes of their own can take from, so that then threads read whatever `data.processes` is.

    Args:
        records: of `open_split`.
        data: `cache`, `processes` and `workers` are read.

    Raises:
        InputError: see `RecordSet.hold`.
    """
    if data.cache:
        records.hold(data.workers)
    return ReadingProcesses(records, data.workers) if data.processes and not data.cache else ClipReader(records)


@cache
def _whole(directory: str, split: str, workers: int) -> np.ndarray:
    """Which tracklets can be read, bool `[N]`; says of the others why not."""
    records, problems = RecordSet.open(directory, split), []
    with ThreadPoolExecutor(workers) as pool, Progress(f"checking {split}", len(records)) as progress:
        for problem in pool.map(partial(_problem, records), range(len(records))):
            problems.append(problem)
            progress.advance()
    damaged = distributed.any_over_processes(np.array([problem is not None for problem in problems]))
    for i in np.flatnonzero(damaged):
        print(f"left out: {problems[i] or f'{records.shard(i)}: tracklet {records.names[i]}, for another process'}")
    if damaged.all():
        raise InputError(f"{directory}: all {len(records)} tracklets of split {split} are damaged, the first one: "
                         f"{problems[0]}")
    if damaged.any():
        print(f"{directory}, split {split}: {damaged.sum():,} of {len(records):,} tracklets are damaged and left out")
    return ~damaged


def _problem(records: RecordSet, i: int) -> str | None:
    try:
        for k in range(records.lengths[i]):
            records.image(i, k)
    except DamagedRecord as error:
        return str(error)
    return None
