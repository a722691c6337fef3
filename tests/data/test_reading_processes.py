"""Processes that read clips give what threads give, and leave nothing behind."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cfaan_jax.data import example, loader
from cfaan_jax.data.reading import ClipReader
from cfaan_jax.data.reading_processes import ReadingProcesses
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.errors import DamagedRecord, InputError
from tests import tiny_records

CLIPS = np.array([3, 0]), np.array([[0, 1, 0], [0, 0, 0]])  # positions and frames


@pytest.fixture(scope="module")
def records(records_directory) -> RecordSet:
    return RecordSet.open(records_directory, "train")


def children(pid: int | None = None) -> set[int]:
    """The processes that a process has started to read, as the system lists them."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == (pid or os.getpid()) and b"reading_processes" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def gone(pids: set[int], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("size", [tiny_records.SIZE, (48, 20)])
def test_batches_are_those_of_threads_in_order_from_any_start(records, size):
    sampler = IdentitySampler(records.pids, 4, 2, 0)
    one, other = (loader.TrainBatches(records, sampler, 3, size, 20, rows=slice(2, 7), reader=reader)
                  for reader in (ReadingProcesses(records, 3), ClipReader(records)))
    for step, batch in enumerate(loader.read_ahead(one, 5, 3), start=5):
        assert batch.keys() == other[step].keys() and batch["frames"].shape[0] == 5
        for name, values in other[step].items():
            np.testing.assert_array_equal(batch[name], values)
    assert step == 19


def test_what_somebody_holds_stays_as_it_is(records):
    reader, expected = ReadingProcesses(records, 2), ClipReader(records)(*CLIPS, tiny_records.SIZE)[0]
    part = reader(*CLIPS, tiny_records.SIZE)[0][0, 1:]
    places = {reader(np.array([1, 2]), CLIPS[1] * 0, tiny_records.SIZE)[0].ctypes.data for _ in range(9)}
    assert len(places) == 1
    np.testing.assert_array_equal(part, expected[0, 1:])
    del reader
    gc.collect()
    np.testing.assert_array_equal(part, expected[0, 1:])


def test_some_tracklets_of_a_split_keep_their_positions(records):
    few = records.only(np.arange(len(records)) % 2 == 1)
    frames, rectangles = ReadingProcesses(few, 1)(*CLIPS, tiny_records.SIZE)
    for found, expected in zip((frames, rectangles), ClipReader(few)(*CLIPS, tiny_records.SIZE), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_cannot_be_read_is_told_as_by_threads_and_the_process_goes_on(tmp_path):
    frames = [tiny_records.frame(np.random.default_rng(k), 1) for k in range(2)]
    directory = tiny_records.write(tmp_path, [tiny_records.tracklet(name, "train", i, 1, 1, frames)
                                              for i, name in enumerate(("fine", "torn"))])
    shard = next(directory.glob("*.tfrecord-*"))
    payload = list(example.read_file(shard))[1][1]
    shard.write_bytes(shard.read_bytes().replace(payload, payload[::-1]))
    records, first = RecordSet.open(directory, "train"), np.zeros((1, 2), int)
    reader = ReadingProcesses(records, 1)
    told = []
    for read in (reader, ClipReader(records)):
        with pytest.raises(DamagedRecord, match="tracklet torn is damaged") as error:
            read(np.array([1]), first, tiny_records.SIZE)
        told.append(str(error.value))
    assert told[0] == told[1]
    assert reader(np.array([0]), first, tiny_records.SIZE)[0].any()


def test_an_error_of_the_program_says_where_it_came_from(records):
    with pytest.raises(IndexError, match="asked for frame 99") as error:
        ReadingProcesses(records, 1)(np.array([0]), np.array([[99]]), tiny_records.SIZE)
    assert "in a process that reads the data" in error.value.__notes__[0] and "_rows_at" in error.value.__notes__[0]


def test_a_killed_process_is_an_error_with_a_remedy(records):
    before = children()
    reader = ReadingProcesses(records, 1)
    reader(*CLIPS, tiny_records.SIZE)
    [pid] = children() - before
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(InputError, match=r"status -9 .*--config\.data\.processes=False"):
            reader(*CLIPS, tiny_records.SIZE)


def test_processes_that_cannot_start_are_an_error_with_a_remedy(records, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match=r"status 1 .*--config\.data\.processes=False"):
        ReadingProcesses(records, 1)(*CLIPS, tiny_records.SIZE)


def test_they_end_with_their_reader_whether_it_was_used_or_not(records):
    before = children()
    used, fresh = ReadingProcesses(records, 2), ReadingProcesses(records, 1)
    used(*CLIPS, tiny_records.SIZE)
    started = children() - before
    assert len(started) == 3
    del used, fresh
    gc.collect()
    assert gone(started)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_they_end_with_their_maker_however_that_ends(records_directory, number):
    program = f"""
import numpy as np, time
from cfaan_jax.data.reading_processes import ReadingProcesses
from cfaan_jax.data.records import RecordSet
reader = ReadingProcesses(RecordSet.open({str(records_directory)!r}, "train"), 2)
for _ in range(2):
    reader(np.array([0]), np.array([[0]]), (64, 32))
print("ready", flush=True)
time.sleep(60)
"""
    maker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert maker.stdout.readline() == "ready\n"
    started = children(maker.pid)
    assert len(started) == 2
    # Ctrl-C in a terminal reaches the whole session of the terminal: they are in one of their own.
    assert all(os.getsid(pid) != os.getsid(maker.pid) for pid in started)
    maker.send_signal(number)
    _, said = maker.communicate()
    assert gone(started) and said.count("Traceback") == (number == signal.SIGINT)


def test_they_carry_neither_jax_nor_grain():
    program = "import sys, cfaan_jax.data.reading_processes; print({'jax', 'grain', 'flax'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
