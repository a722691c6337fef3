"""What a run ran in: an entry with every start, the state of the repository where there is one."""

import json
import shlex
import subprocess
import sys

import pytest

from cfaan_jax.experiment import environment
from tests.data_prep.checks import check_refused


def test_every_start_adds_an_entry(tmp_path):
    for seed in (3, 3, 4):
        environment.note(tmp_path, seed)
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert [each["seed"] for each in starts] == [3, 3, 4]
    for each in starts:
        assert each["packages"]["jax"] and each["backend"] == "cpu" and sum(each["devices"].values()) >= 1
        assert each["command"] == shlex.join(sys.orig_argv) and each["time"].endswith("+00:00")


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_damaged_list_is_not_overwritten(tmp_path, content):
    (tmp_path / "environment.json").write_text(content)
    check_refused("environment.json: not a list of starts", environment.note, tmp_path, 0)
    assert (tmp_path / "environment.json").read_text() == content


def test_the_state_of_a_repository(tmp_path):
    def git(*arguments):
        done = subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", tmp_path, *arguments],
                              check=True, capture_output=True, text=True)
        return done.stdout.strip()

    source = tmp_path / "source.py"
    source.write_text("1")
    assert environment.git_state(source) is None
    git("init", "--quiet")
    assert environment.git_state(source) is None  # beside a repository's files, but none of them
    git("add", "source.py")
    git("commit", "--quiet", "--message=one")
    assert environment.git_state(source) == {"commit": git("rev-parse", "HEAD"), "changed": []}
    source.write_text("2")
    assert environment.git_state(source)["changed"] == [" M source.py"]
