"""Records in object storage."""

import shutil
import uuid
from unittest import mock

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cfaan_jax.data import loader, records
from cfaan_jax.data.clips import test_clips as clips_of
from cfaan_jax.data.manifest import load_manifest
from cfaan_jax.data.records import RecordSet
from cfaan_jax.data.samplers import IdentitySampler
from cfaan_jax.errors import DamagedRecord, InputError
from tests import tiny_records
from tests.data_prep.checks import check_refused


@pytest.fixture
def address(records_directory) -> str:
    """The tiny records as objects."""
    address = f"memory://{uuid.uuid4()}/records"
    fsspec.filesystem("memory").put(f"{records_directory}/", f"{address}/", recursive=True)
    return address


@pytest.fixture
def reads(monkeypatch) -> mock.Mock:
    """Counts the reads of objects from now on."""
    counting = mock.create_autospec(MemoryFileSystem.cat_file, side_effect=MemoryFileSystem.cat_file)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", counting)
    return counting


def test_objects_give_what_files_give(address, records_directory):
    assert load_manifest(address) == load_manifest(records_directory)
    for split in ("train", "query", "gallery"):
        there, here = RecordSet.open(address, split), RecordSet.open(records_directory, split)
        assert there.names == here.names and str(there.shard(0)).startswith(address)
        for i, length in enumerate(here.lengths):
            assert [there.frame(i, k) for k in range(length)] == [here.frame(i, k) for k in range(length)]
            assert there.record(i).frames == here.record(i).frames


def test_one_read_brings_a_tracklet(address, reads):
    records = RecordSet.open(address, "train")
    assert len({call.args[1] for call in reads.call_args_list}) == reads.call_count == 2  # manifest and index
    reads.reset_mock()
    sampler = IdentitySampler(records.pids, 8, 3, seed=0)
    for _ in range(2):
        assert len(loader.TrainBatches(records, sampler, 3, tiny_records.SIZE, 1)[0]["frames"]) == 24
        assert reads.call_count == len(set(sampler.batch(0)))


@pytest.mark.parametrize("workers", [1, 4])
def test_evaluation_reads_each_tracklet_once(address, reads, workers, records_directory):
    records = RecordSet.open(address, "gallery")
    reads.reset_mock()
    read = list(loader.ClipBatches(records, "all_sampled", 2, tiny_records.SIZE, 2, workers))
    assert sum(len(clips_of(n, 2, "all_sampled")) for n in records.lengths) > reads.call_count == len(records)
    local = RecordSet.open(records_directory, "gallery")
    for batch, same in zip(read, loader.ClipBatches(local, "all_sampled", 2, tiny_records.SIZE, 2), strict=True):
        np.testing.assert_array_equal(batch["frames"], same["frames"])


def test_the_latest_records_are_cached(address, reads, monkeypatch):
    monkeypatch.setattr(records, "_CACHED", 2)
    split = RecordSet.open(address, "train")
    reads.reset_mock()
    for i, count in ((1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)):
        assert split.frame(i, 0) == split.record(i).frames[0]
        assert reads.call_count == count


def test_a_damaged_object_is_named(address):
    split, files = RecordSet.open(address, "train"), fsspec.filesystem("memory")
    content = bytearray(files.cat(split.shard(0)))
    content[content.index(b"train-3")] ^= 1
    files.pipe(split.shard(0), bytes(content))
    with pytest.raises(DamagedRecord, match=f"{split.shard(0)}: tracklet train-3 is damaged"):
        split.frame(3, 0)
    assert split.frame(2, 0)


def test_what_vanishes_or_breaks_is_named_with_the_remedy(address, monkeypatch):
    records, files = RecordSet.open(address, "train"), fsspec.filesystem("memory")
    files.rm(str(records.shard(0)))
    with pytest.raises(InputError, match=f"{records.shard(0)} is missing; restore it") as raised:
        records.frame(0, 0)
    assert not isinstance(raised.value, DamagedRecord)
    check_refused("this shard is missing|no shard of split train", RecordSet.open, address, "train")
    with pytest.raises(InputError, match="elsewhere/records/manifest.json is missing.*name the folder"):
        RecordSet.open("memory://elsewhere/records", "train")

    records = RecordSet.open(address, "query")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", mock.Mock(side_effect=RuntimeError("no credentials")))
    check_refused(r"cannot be read \(RuntimeError: no credentials\); check its path", records.frame, 0, 0)


def test_an_address_that_nothing_reads_names_what_is_missing():
    check_refused("nowhere://records: Protocol not known", RecordSet.open, "nowhere://records", "train")
    fsspec.register_implementation("lacking", "no_such_package.Files", errtxt="Install lackingfs", clobber=True)
    with pytest.raises(InputError, match="lacking://records: Install lackingfs; install the package"):
        RecordSet.open("lacking://records", "train")


def test_a_local_shard_that_vanishes_or_is_emptied_is_named(tmp_path, records_directory):
    for harm, said in ((lambda path: path.unlink(), "is missing"), (lambda path: path.write_bytes(b""), "cannot be")):
        records = RecordSet.open(shutil.copytree(records_directory, tmp_path / said), "query")
        harm(records.shard(0))
        check_refused(said, records.frame, 0, 0)
