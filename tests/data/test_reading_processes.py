"""Processes that read clips give what threads give, and leave nothing behind."""

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from cfaan_jax.data import example, loader, reading_processes
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
            if parent == (pid or os.getpid()) and b"import serve" in (folder / "cmdline").read_bytes():
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


def test_another_process_goes_on_where_one_was_killed(records):
    before, expected = children(), ClipReader(records)(*CLIPS, tiny_records.SIZE)[0]
    reader = ReadingProcesses(records, 1)
    for _ in range(2):
        reader(*CLIPS, tiny_records.SIZE)
        [pid] = children() - before
        os.kill(pid, signal.SIGKILL)
        with pytest.warns(RuntimeWarning, match=r"status -9 \(killed, perhaps .*\); another one goes on"):
            np.testing.assert_array_equal(reader(*CLIPS, tiny_records.SIZE)[0], expected)


@pytest.mark.parametrize("executable, message", [
    ("/bin/false", "has ended with status 1, as the one before"), ("/nowhere", "cannot be started .*No such file")])
def test_processes_that_do_not_run_are_an_error_with_a_remedy(records, monkeypatch, executable, message):
    monkeypatch.setattr(sys, "executable", executable)
    with warnings.catch_warnings(), pytest.raises(InputError, match=message + r".*--config\.data\.processes=False"):
        warnings.simplefilter("ignore")
        ReadingProcesses(records, 1)(*CLIPS, tiny_records.SIZE)


def test_after_an_interrupted_read_the_next_one_gets_its_own_answer(records, monkeypatch):
    reader, interrupted = ReadingProcesses(records, 1), []

    def cut_short(connection):
        interrupted.append(connection)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Connection, "recv", cut_short)
        reader(np.array([1]), np.array([[0]]), tiny_records.SIZE)
    assert interrupted
    for found, expected in zip(reader(*CLIPS, tiny_records.SIZE), ClipReader(records)(*CLIPS, tiny_records.SIZE),
                               strict=True):
        np.testing.assert_array_equal(found, expected)


def test_many_batches_at_once_take_few_descriptors(records, monkeypatch):
    monkeypatch.setattr(reading_processes, "_PIECE", 1 << 18)
    reader, expected = ReadingProcesses(records, 1), ClipReader(records)(*CLIPS, tiny_records.SIZE)[0]
    before = len(list(Path("/proc/self/fd").iterdir()))
    sizes = [tiny_records.SIZE] * 30 + [(200, 150)] * 2  # those of the last are larger than a piece
    held = [reader(*CLIPS, size)[0] for size in sizes]
    assert len(list(Path("/proc/self/fd").iterdir())) - before < 10
    for frames in held[:30]:
        np.testing.assert_array_equal(frames, expected)
    np.testing.assert_array_equal(held[-1], ClipReader(records)(*CLIPS, (200, 150))[0])
    assert len({frames.ctypes.data for frames in held}) == len(held)


def run(program: str, directory: Path, **settings) -> subprocess.CompletedProcess:
    """Runs a program that begins with the records and a way to take a clip of them."""
    program = f"""
import os, sys, numpy as np
from cfaan_jax.data.reading_processes import ReadingProcesses
from cfaan_jax.data.records import RecordSet
records = RecordSet.open({str(directory)!r}, "train")
def clip(reader):
    return reader(np.array([0]), np.array([[0]]), (64, 32))[0].sum()
{program}"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, **settings)


def test_closed_streams_do_not_matter(records, records_directory, tmp_path):
    """Where they are closed the next files that are opened get their numbers, and what is written to them."""
    program = f"""
import os
for stream in range(3):
    os.close(stream)
import numpy as np
from cfaan_jax.data.reading_processes import ReadingProcesses
from cfaan_jax.data.records import RecordSet
reader = ReadingProcesses(RecordSet.open({str(records_directory)!r}, "train"), 1)
np.save({str(tmp_path / "found.npy")!r}, reader(np.array([0]), np.array([[0]]), (64, 32))[0])
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    expected = ClipReader(records)(np.array([0]), np.array([[0]]), (64, 32))[0]
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)


def test_they_find_the_package_from_another_folder_and_with_paths_that_are_no_words(records_directory):
    done = run("""
from pathlib import Path
os.chdir("/")
sys.path.append(Path("/nowhere"))
print(clip(ReadingProcesses(records, 1)) > 0)
""", records_directory)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_forked_process_is_refused_and_holds_up_nobody(records_directory):
    done = run("""
import time
reader = ReadingProcesses(records, 1)
whole = clip(reader)
if os.fork() == 0:
    try:
        clip(reader)
    except ValueError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
assert clip(reader) == whole
if os.fork() == 0:
    time.sleep(30)
    os._exit(0)
began = time.monotonic()
del reader
print(time.monotonic() - began < 10, flush=True)
os.kill(0, 15)
""", records_directory, start_new_session=True)
    refused, quickly = done.stdout.splitlines()
    assert "make the reader anew" in refused and quickly == "True"


def test_a_stopped_process_holds_up_nobody(records):
    before = children()
    reader = ReadingProcesses(records, 1)
    reader(*CLIPS, tiny_records.SIZE)
    started = children() - before
    os.kill(*started, signal.SIGSTOP)
    del reader
    gc.collect()
    assert gone(started)


def test_they_end_with_their_reader_whether_it_was_used_or_not(records):
    before = children()
    used, fresh = ReadingProcesses(records, 2), ReadingProcesses(records, 1)
    used(*CLIPS, tiny_records.SIZE)
    started = children() - before
    assert len(started) == 3
    del used, fresh
    gc.collect()
    assert gone(started)


@pytest.mark.parametrize("number, forked", [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, False)])
def test_they_end_with_their_maker_however_that_ends(records_directory, number, forked):
    """Also where another process that was forked from the maker has their sockets, too."""
    program = f"""
import numpy as np, os, time
from cfaan_jax.data.reading_processes import ReadingProcesses
from cfaan_jax.data.records import RecordSet
reader = ReadingProcesses(RecordSet.open({str(records_directory)!r}, "train"), 2)
for _ in range(2):
    reader(np.array([0]), np.array([[0]]), (64, 32))
other = os.fork() if {forked} else -1
if other == 0:
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
print(other, flush=True)
time.sleep(60)
"""
    maker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    other = int(maker.stdout.readline())
    started = children(maker.pid)
    assert len(started) == 2
    # Ctrl-C in a terminal reaches the whole session of the terminal: they are in one of their own.
    assert all(os.getsid(pid) != os.getsid(maker.pid) for pid in started)
    maker.send_signal(number)
    _, said = maker.communicate()
    assert gone(started)
    if forked:
        os.kill(other, signal.SIGKILL)
    assert said.count("Traceback") == (number == signal.SIGINT)


def test_they_carry_neither_jax_nor_grain():
    program = "import sys, cfaan_jax.data.reading_processes; print({'jax', 'grain', 'flax'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
