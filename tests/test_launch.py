"""The scripts that start several machines: they parse, and pass arguments on as they were given."""

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
