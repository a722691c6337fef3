"""Bad flags of benchmarks end before anything is measured, with the flag, its value and the remedy."""

import importlib
import re

import pytest

from benchmarks import growth
from tests.data_prep.checks import check_refused


@pytest.mark.parametrize("name, flag, said", [
    ("step", "--batch=0", "--batch: 0: give a whole number of at least 1"),
    ("step", "--steps=0", "--steps: 0: give"),
    ("step", "--image_size=64", "--image_size: 64: give 2 numbers"),
    ("step", "--image_size=64,a", "--image_size: a: give a whole number"),
    ("step", "--depths=1,1", "--depths: 1,1: give 4 numbers"), ("step", "--width=-8", "--width: -8: give"),
    ("step", "--variants=c2d,nonsense", "--variants: 'nonsense' is none of"),
    ("step", "--compute=float16", "'float16' is none of float32, float32_highest, bfloat16"),
    ("step", "--torch --width=8", "--torch: PyTorch's ResNet-50 has no other width than 64"),
    ("growth", "--devices=1,-1", "--devices: -1: give"),
    ("growth", "--steps=-1", "--steps: -1: give a whole number of at least 0"),
    ("growth", "--galleries=0", "--galleries: 0: give"),
    ("input", "--rounds=0", "--rounds: 0: give"), ("extraction", "--batches=0", "--batches: 0: give"),
    ("extraction", "--variant=nonsense", "invalid choice: 'nonsense': choose one of c2d, nonlocal, "),
    ("mars_rehearsal", "--steps=1.5", "--steps: 1.5: give"),
    ("program", "--out=not/there.json", "--out: not/there.json: give a file in a folder that is there")])
def test_flags_are_refused(name, flag, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--out=out.json", *flag.split(), *(["--records=here"] if name == "input" else [])]
    check_refused(re.escape(said), importlib.import_module(f"benchmarks.{name}").main, flags)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("flags, said", [
    (["--devices=1,64"], "--devices=64: JAX sees.*device_count=64"),  # before anything is compiled
    (["--devices=1", "--accumulate=2"], "--accumulate=2: .* leave it out")])  # of a loop the compiler counts one turn
def test_growth_that_cannot_be_measured_is_refused(flags, said, tmp_path):
    check_refused(said, growth.main, [f"--out={tmp_path / 'growth.json'}", *flags])
