"""What ends a command. On a full disk: one clear line, nothing half-written, and the same command goes on afterwards.

The kernel refuses the writes: beyond the limit that a process sets on the size of its files (RLIMIT_FSIZE) every write
fails. A full disk does the same with another number. Packing has its own such test, tests/data_prep/test_build.py.
"""

import errno
import json
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from cfaan_jax.data import records
from cfaan_jax.data.index import index_path
from cfaan_jax.data.index_build import rebuild_index
from cfaan_jax.data.records import RecordSet
from cfaan_jax.deploy import extract
from cfaan_jax.errors import InputError
from cfaan_jax.evaluate import evaluate
from cfaan_jax.evaluate.results import result_rows
from cfaan_jax.experiment import checkpoint
from cfaan_jax.experiment.metric_log import MetricLog
from cfaan_jax.metrics.search import About, Search
from cfaan_jax.privacy import forget
from cfaan_jax.report import summary
from cfaan_jax.report.label_review import review
from cfaan_jax.runtime.command import describe_os_error, exit_status
from data_prep import build_tfrecords
from tests.privacy.test_forget import contents


@contextmanager
def no_file_beyond(size: int):
    """Nothing can be written behind so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fails_and_goes_on(work, folder: Path, capsys, written: Path, size: int = 64) -> None:
    """Without space the work leaves the folder as it was and says why; afterwards it is done."""
    before = contents(folder)
    with no_file_beyond(size):
        assert exit_status(work) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {written}: File too large; raise the limit") and said.count("\n") == 1
    assert contents(folder) == before
    assert exit_status(work) == 0


@pytest.fixture
def mine(records_directory, tmp_path) -> Path:
    """Records of one's own."""
    return shutil.copytree(records_directory, tmp_path / "records")


def search_of(folder: Path) -> Search:
    parts = [RecordSet.open(folder, split) for split in ("query", "gallery")]
    features = np.random.default_rng(0).normal(size=(sum(map(len, parts)), 4)).astype(np.float32)
    return Search.of_splits(features, *parts, About("tiny", "", False, "c2d", 0, "last", "test"))


def test_an_index(mine, capsys):
    path = index_path(mine, "gallery")
    index = path.read_bytes()
    fails_and_goes_on(lambda: not rebuild_index(mine, "gallery"), mine, capsys, path)
    assert path.read_bytes() == index


def test_a_checkpoint_is_not_begun_where_there_is_no_space(tmp_path, capsys, monkeypatch):
    trees = {"model": {"weight": jnp.zeros(2 << 20)}}  # 8 MiB
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save("last", checkpoint.TrainingProgress(1, 5), **trees)
        checkpoints.wait()
        before = contents(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10 << 20))
            assert exit_status(lambda: checkpoints.save("last", checkpoint.TrainingProgress(2, 5), **trees)) == 1
        assert capsys.readouterr().err == (f"error: {tmp_path / 'checkpoints/last'}: no space left for a checkpoint of "
                                           "14 MiB; free some space there, then run the same command again\n")
        assert contents(tmp_path) == before
        checkpoints.save("last", checkpoint.TrainingProgress(2, 5), **trees)
        assert checkpoints.step("last") == 2


def test_a_checkpoint_that_cannot_be_finished_is_none(tmp_path, capfd):
    trees = {"model": {"weight": jnp.arange(100_000.0)}}
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save("last", checkpoint.TrainingProgress(1, 5), **trees)
        checkpoints.wait()
        with no_file_beyond(4096):
            assert exit_status(lambda: (checkpoints.save("last", checkpoint.TrainingProgress(2, 5), **trees),
                                        checkpoints.wait())) == 1
    assert f"error: {tmp_path / 'checkpoints/last'}: File too large" in capfd.readouterr().err
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.step("last") == 1
        np.testing.assert_array_equal(checkpoints.restore("last", **trees)["model"]["weight"], trees["model"]["weight"])
        checkpoints.save("last", checkpoint.TrainingProgress(2, 5), **trees)
        assert checkpoints.step("last") == 2


def test_figures_of_training(tmp_path, capsys):
    def log_two_steps():
        with MetricLog(tmp_path) as log:
            for step in (1, 2):
                log.write("train", step, 1, loss=0.5)

    with no_file_beyond(150):
        assert exit_status(log_two_steps) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'metrics.csv'}: File too large")
    assert exit_status(log_two_steps) == 0


def test_features_of_an_evaluation(mine, tmp_path, capsys):
    path = tmp_path / "features-last-test.npz"
    fails_and_goes_on(lambda: search_of(mine).save(path), tmp_path, capsys, path)
    evaluate.main([str(path), "--protocols=mars"])


def test_results_of_several_runs(mine, tmp_path, capsys):
    found = search_of(mine)
    (tmp_path / "results.json").write_text(json.dumps(result_rows(found, found.score(["mars"]), None)))
    fails_and_goes_on(lambda: summary.main([f"--out={tmp_path / 'all.json'}", str(tmp_path / "results.json")]),
                      tmp_path, capsys, tmp_path / "all.json")


def test_a_label_review(mine, tmp_path, capsys):
    search_of(mine).save(tmp_path / "features.npz")
    arguments = [str(tmp_path / "features.npz"), f"--records={mine}", f"--out={tmp_path / 'review'}"]
    fails_and_goes_on(lambda: review.main(arguments), tmp_path, capsys, tmp_path / "review")


def test_extracted_features(tmp_path, capsys):
    found = extract.Extracted(["a", "b"], np.ones((2, 64), np.float32), {"distance": "cosine"})
    extract.write(tmp_path / "features", found)
    before = contents(tmp_path)
    fails_and_goes_on(lambda: extract.write(tmp_path / "features", found), tmp_path, capsys, tmp_path / "features", 200)
    assert contents(tmp_path) == before


def test_a_deletion(mine, capsys):
    arguments = ["--yes", "--pid=1", "--pid=11", str(mine)]
    with no_file_beyond(2000):
        assert exit_status(lambda: forget.main(arguments)) == 1
    assert "File too large" in capsys.readouterr().err
    with pytest.raises(InputError, match="manifest.json is missing"):
        RecordSet.open(mine, "train")
    assert exit_status(lambda: forget.main(arguments)) == 0
    assert 11 not in RecordSet.open(mine, "query").pids and 1 not in RecordSet.open(mine, "train").pids


@pytest.mark.parametrize("command", [
    lambda out, mine: build_tfrecords.main(["--dataset=dukev", f"--root={mine}", f"--out={out}"]),
    lambda out, mine: records.main([f"--rebuild_index={out}"]),
    lambda out, mine: exit_status(lambda: review.main([str(out / "features.npz"), f"--records={mine}",
                                                       f"--out={mine / 'review'}"])),
    lambda out, mine: exit_status(lambda: forget.main(["--pid=1", str(out)])),
    lambda out, mine: exit_status(lambda: summary.main([f"--out={out / 'a.json'}", str(mine / "results.json")])),
    lambda out, mine: exit_status(lambda: extract.read(out)),
], ids=["packing", "index", "review", "forget", "summary", "search"])
def test_a_path_that_is_gone_or_no_folder_is_named(mine, tmp_path, capsys, command):
    (mine / "file").write_text("")
    for gone in (mine / "file" / "below", mine / "file"):
        assert command(gone, mine) in (1, 2)
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1


@pytest.mark.parametrize("number, remedy", [
    (errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EROFS, "permission"),
    (errno.EACCES, "permission"), (errno.ENOENT, "bring it back"), (errno.ESTALE, "bring it back"),
    (errno.EIO, "repair the disk")])
def test_every_cause_has_its_remedy(number, remedy):
    said = describe_os_error(OSError(number, "why", "where"))
    assert said.startswith("where: why; ") and remedy in said and said.endswith("run the same command again")
