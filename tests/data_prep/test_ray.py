"""The Ray engine: the same bytes as threads, whatever dies on the way, and the same errors."""

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from data_prep.build_tfrecords import main
from tests.data_prep.checks import contents
from tests.data_prep.test_build import REPOSITORY, aligned

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r data_prep/requirements-ray.txt")


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children(recursive=True)
            if child.name().startswith("ray::_Worker")]


def test_a_killed_worker_costs_only_its_unfinished_tracklets_and_the_bytes_are_those_of_threads(root, tmp_path):
    assert main(aligned(root, tmp_path / "threads")) == 0
    out = tmp_path / "out"
    command = [sys.executable, "data_prep/build_tfrecords.py", *aligned(root, out, "--engine=ray", "--workers=3")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        deadline = time.monotonic() + 120
        while not (alive := workers(run)):
            assert run.poll() is None and time.monotonic() < deadline, run.communicate()[0][-3000:]
            time.sleep(0.01)
        os.kill(alive[0].pid, signal.SIGKILL)
        text, _ = run.communicate(timeout=300)
    assert run.returncode == 0, text[-3000:]
    assert contents(out) == contents(tmp_path / "threads")
    assert "detect" in text and "of the work" in text


def test_errors_are_those_of_threads(root, tmp_path, capsys):
    broken = shutil.copytree(root, tmp_path / "root")
    path = min(broken.rglob("*.jpg"))
    path.write_bytes(path.read_bytes()[:200])
    assert main(aligned(broken, tmp_path / "out", "--engine=ray", "--workers=2")) == 2
    assert "is not a readable image" in capsys.readouterr().err
