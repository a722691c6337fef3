"""One process at a time in a folder, and what is left by a crash."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from cfaan_jax.runtime import lock
from tests.data_prep.checks import check_refused

HOLDER = """
import sys, time
from pathlib import Path
from cfaan_jax.runtime import lock
with lock.exclusive(Path(sys.argv[1]), "trains"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path/.lock`."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / ".lock")], stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def take(path) -> None:
    with lock.exclusive(path, "trains"):
        pass


def test_a_second_process_is_refused_with_host_and_number_of_the_first(holder, tmp_path):
    check_refused(f"process {holder.pid} on {socket.gethostname()} .trains, since 2", take, tmp_path / ".lock")
    assert holder.poll() is None and (tmp_path / ".lock").exists()


def test_what_a_crash_left_is_nobodys(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == holder.pid
    with lock.exclusive(tmp_path / ".lock", "trains"):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / ".lock").exists()


def test_another_machine_is_believed_and_the_remedy_named(tmp_path):
    left = {"host": "elsewhere", "pid": 7, "boot": "other", "doing": "trains", "since": "then"}
    (tmp_path / ".lock").write_text(json.dumps(left))
    check_refused(r"process 7 on elsewhere.*remove the file .*\.lock", take, tmp_path / ".lock")
    assert json.loads((tmp_path / ".lock").read_text()) == left


@pytest.mark.parametrize("text", ["", "{", "[1]", json.dumps({
    "host": socket.gethostname(), "pid": os.getppid(), "boot": "before", "doing": "trains", "since": "then"})],
    ids=["empty", "cut off", "a list", "of an earlier boot"])
def test_what_says_nothing_or_a_number_that_another_process_got_later_holds_nothing(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    take(tmp_path / ".lock")


def test_it_is_given_back_whatever_happens(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), lock.exclusive(tmp_path / "new" / ".lock", "trains"):
            raise KeyError
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("made_before", [True, False])
def test_a_folder_that_was_there_or_holds_something_stays(made_before, tmp_path):
    folder = tmp_path / "folder"
    if made_before:
        folder.mkdir()
    with lock.exclusive(folder / ".lock", "trains"):
        if not made_before:
            (folder / "results").touch()
    assert [each.name for each in folder.iterdir()] == ([] if made_before else ["results"])


def test_where_no_lock_can_be_had_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("years of work")
    check_refused("file: cannot be locked.*another folder", take, tmp_path / "file" / ".lock")
    assert (tmp_path / "file").read_text() == "years of work"
