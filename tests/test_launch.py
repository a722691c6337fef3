"""The scripts of launch/: they parse, pass arguments on as they were given, and stop where going on is of no use."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[1] / "launch"
ARGUMENTS = ["--config=configs/mars.py:c2d", "--workdir=runs/a folder", "--config.model.depths=(1,1,1,1)"]


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)


def started(tmp_path: Path, script: str, program: str, arguments: Sequence[str] = ARGUMENTS,
            **environment: str) -> list[str]:
    """The arguments with which a script starts a program, once or several times."""
    stand_in = tmp_path / program
    stand_in.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    stand_in.chmod(0o755)
    done = subprocess.run(["bash", LAUNCH / script, *arguments], check=True, capture_output=True, text=True,
                          cwd=tmp_path, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **environment})
    return done.stdout.split("\0")[:-1]


def test_slurm_starts_the_command(tmp_path):
    found = started(tmp_path, "slurm.sh", "srun", SLURM_SUBMIT_DIR=str(tmp_path))
    assert found[-len(ARGUMENTS) - 3:] == ["python", "-m", "cfaan_jax.main", *ARGUMENTS]


def test_a_slice_starts_the_command_on_every_host(tmp_path):
    found = started(tmp_path, "tpu_pod.sh", "gcloud", TPU="mine", ZONE="there")
    assert {"mine", "--zone=there", "--worker=all"} <= set(found)
    remote = found[-1].removeprefix("--command=").split("cfaan_jax.main ")[1]
    taken_apart = subprocess.run(["bash", "-c", f'printf "%s\\0" {remote}'], check=True, capture_output=True, text=True)
    assert taken_apart.stdout.split("\0")[:-1] == ["--distributed=yes", *ARGUMENTS]


def test_the_demo_tracks_then_searches(tmp_path):
    (tmp_path / "net.onnx").touch()
    found = started(tmp_path, "demo.sh", "python", ["a b.mp4", "c.mp4", "--weights=net.onnx", "--video_stride=3"],
                    CFAAN_VENV="none")
    searched = ["-m", "cfaan_jax.demo", "runs/demo/records", "--weights=net.onnx", "--out=runs/demo/report"]
    assert found == [*searched, "--check",
                     str(LAUNCH.parent / "data_prep/build_tfrecords.py"), "--dataset=video", "--root=a b.mp4:c.mp4",
                     "--training_share=0", "--out=runs/demo/records", "--detector=none", "--video_stride=3", *searched]


@pytest.mark.parametrize("arguments, words", [
    (["--weights=gone"], "which videos?"), (["a.mp4", "--stride"], "unknown argument '--stride'"),
    (["a.mp4", "--weights=gone"], "gone: no weights there; give --weights=WHERE")])
def test_the_demo_says_what_is_missing(tmp_path, arguments, words):
    done = subprocess.run(["bash", LAUNCH / "demo.sh", *arguments], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "CFAAN_VENV": "none"})
    assert done.returncode == 2 and words in done.stderr and not list(tmp_path.iterdir())


def test_the_job_set_agrees_with_itself():
    described = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    [job] = described["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert spec["completions"] == spec["parallelism"] == int(environment["JAX_NUM_PROCESSES"])
    name = described["metadata"]["name"]
    assert environment["JAX_COORDINATOR_ADDRESS"].startswith(f"{name}-{job['name']}-0-0.{name}:")
    assert {each["name"] for each in spec["template"]["spec"]["volumes"]} == {
        each["name"] for each in container["volumeMounts"]}


def start_table(*arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(["bash", LAUNCH / "table.sh", *arguments], cwd=LAUNCH.parent, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "CFAAN_VENV": "none", **environment})


def test_a_table_lists_what_it_would_do(tmp_path):
    script = start_table("2", "--scale=small", f"--runs={tmp_path / 'runs'}", "--seeds=5", "--dry_run",
                         "--config.train.epochs=3")
    lines, errors = (text.splitlines() for text in script.communicate())
    assert script.returncode == 0, errors
    assert len(lines) == 9 and all(line.startswith("to do\tpython -m cfaan_jax.main") for line in lines)
    assert all("--config.seed=5" in line and "--config.train.epochs=3" in line for line in lines)
    assert not (tmp_path / "runs").exists()


# Stands for python: the table has five runs, of which the first is done and the third does as told.
PYTHON = """#!/usr/bin/env bash
case "$*" in
    *cfaan_jax.main*--workdir=3) echo "ran $*"; {run} ;;
    *cfaan_jax.main*) echo "ran $*" ;;
    *--list*) echo "done	python -m cfaan_jax.main --workdir=1"
              for i in 2 3 4 5; do echo "to do	python -m cfaan_jax.main --workdir=$i"; done ;;
    *cfaan_jax.tables*) echo "the table" ;;
esac
"""


@pytest.fixture
def start_runs(tmp_path):
    """Starts a table with that in the place of python, and with `run` in that of one run."""
    def start(run: str) -> subprocess.Popen:
        (tmp_path / "python").write_text(PYTHON.format(run=run))
        (tmp_path / "python").chmod(0o755)
        return start_table("2", f"--runs={tmp_path / 'runs'}", PATH=f"{tmp_path}:{os.environ['PATH']}")
    return start


@pytest.mark.parametrize("status, expected, ran", [(1, 1, 4), (2, 2, 2), (143, 143, 2)])
def test_a_table_stops_where_going_on_is_of_no_use(start_runs, status, expected, ran):
    script = start_runs(f"exit {status}")
    said, errors = script.communicate()
    assert (script.returncode, said.count("ran -m cfaan_jax.main")) == (expected, ran), errors
    assert ("the table" in said, "1 runs failed" in errors) == (status == 1, status == 1)


def test_a_signal_to_a_table_alone_stops_its_run_and_the_table(start_runs):
    script = start_runs("trap 'echo saved; exit 143' TERM; echo began; for ((;;)); do sleep 0.05; done")
    assert "began\n" in script.stdout  # reads up to there
    script.terminate()
    assert script.wait(30) == 143 and script.stdout.read() == "saved\n"


@pytest.mark.parametrize("arguments", [("1", "4"), ("5",), ("--dry_run",)])
def test_a_table_refuses_what_it_does_not_know(arguments):
    assert start_table(*arguments).wait() == 2


def test_a_table_says_how_it_is_used():
    assert "launch/table.sh N" in start_table("--help").communicate()[0]
