"""Opens the records of an experiment as its config says, with or without damaged tracklets."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import DamagedRecord, InputError
from cfaan_jax.runtime import distributed
from cfaan_jax.runtime.progress import Progress

ON_BAD_RECORD = ("error", "skip")


def open_split(directory: str | Path, split: str, data: ConfigDict) -> RecordSet:
    """Opens the tracklets of a split; with `on_bad_record="skip"` the undamaged ones, the same in all processes.

    For "skip" every frame is read and decoded once, so that the selection depends on the files alone. InputError as
    from `RecordSet.open`, or if all tracklets are damaged.
    """
    records = RecordSet.open(directory, split)
    return records.only(_undamaged(str(directory), split, data.workers)) if data.on_bad_record == "skip" else records


@cache
def _undamaged(directory: str, split: str, workers: int) -> np.ndarray:
    """Which tracklets can be read, bool `[N]`; prints a line for each other one."""
    records, errors = RecordSet.open(directory, split), []
    with ThreadPoolExecutor(workers) as pool, Progress(f"checking {split}", len(records)) as progress:
        for error in pool.map(partial(_read_error, records), range(len(records))):
            errors.append(error)
            progress.advance()
    damaged = distributed.any_over_processes(np.array([error is not None for error in errors]))
    for i in np.flatnonzero(damaged).tolist():
        print(f"left out: {errors[i] or f'{records.shard(i)}: tracklet {records.names[i]}, for another process'}")
    if damaged.all():
        raise InputError(f"{directory}: all {len(records)} tracklets of split {split} are damaged, the first one: "
                         f"{errors[0]}")
    if damaged.any():
        print(f"{directory}, split {split}: {damaged.sum():,} of {len(records):,} tracklets are damaged and left out")
    return ~damaged


def _read_error(records: RecordSet, i: int) -> str | None:
    try:
        for k in range(records.lengths[i]):
            records.image(i, k)
    except DamagedRecord as error:
        return str(error)
    return None
