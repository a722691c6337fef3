"""The Ray engine: the same bytes as threads, whatever dies on the way, and the same errors."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_prep.build_tfrecords import main
from tests.data_prep.test_build import REPOSITORY, contents, copy, root  # noqa: F401

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -r data_prep/requirements-ray.txt")


def flags(root: Path, out: Path, *more: str) -> list[str]:  # noqa: F811
    return ["--dataset=dukev", f"--root={root}", f"--out={out}", "--detector=hog", "--linker=largest",
            "--image_size=64x32", "--shard_size=2", *more]


@pytest.fixture(scope="module")
def by_threads(root, tmp_path_factory) -> Path:  # noqa: F811
    out = tmp_path_factory.mktemp("threads") / "out"
    assert main(flags(root, out)) == 0
    return out


def test_any_number_of_workers_gives_the_bytes_of_threads(root, by_threads, tmp_path, capsys):  # noqa: F811
    assert main(flags(root, tmp_path / "out", "--engine=ray", "--workers=3")) == 0
    assert contents(tmp_path / "out") == contents(by_threads)
    text = capsys.readouterr().out
    assert "detect" in text and "of the work" in text


def workers(process: subprocess.Popen) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children(recursive=True)
            if child.name().startswith("ray::_Worker")]


def test_a_killed_worker_costs_only_its_unfinished_tracklets(root, by_threads, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    command = [sys.executable, "data_prep/build_tfrecords.py", *flags(root, out, "--engine=ray", "--workers=2")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        deadline = time.monotonic() + 120
        while not (alive := workers(run)):
            assert run.poll() is None and time.monotonic() < deadline, run.communicate()[0][-3000:]
            time.sleep(0.01)
        os.kill(alive[0].pid, signal.SIGKILL)
        text, _ = run.communicate(timeout=300)
    assert run.returncode == 0, text[-3000:]
    assert contents(out) == contents(by_threads)


def test_errors_are_those_of_threads(root, tmp_path, capsys):  # noqa: F811
    broken = copy(root, tmp_path / "root")
    path = next(path for path in sorted(broken.rglob("*.jpg")))
    path.write_bytes(path.read_bytes()[:200])
    assert main(flags(broken, tmp_path / "out", "--engine=ray", "--workers=2")) == 2
    assert "is not a readable image" in capsys.readouterr().err
