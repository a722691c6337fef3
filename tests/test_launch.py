"""The scripts that start several machines: they parse, and pass arguments on as they were given."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[1] / "launch"
ARGUMENTS = ["--config=configs/mars.py:c2d", "--workdir=runs/a folder", "--config.model.depths=(1,1,1,1)"]


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script):
    subprocess.run(["bash", "-n", script], check=True)


def started(tmp_path: Path, script: str, program: str, **environment: str) -> list[str]:
    """The arguments with which a script starts a program."""
    stand_in = tmp_path / program
    stand_in.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    stand_in.chmod(0o755)
    done = subprocess.run(["bash", LAUNCH / script, *ARGUMENTS], check=True, capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **environment})
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
