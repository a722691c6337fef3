"""Bad flags of benchmarks end before anything is measured, with the flag, its value and the remedy."""

import importlib

import pytest

from cfaan_jax.errors import InputError

_REFUSED = [
    ("step", "--batch=0", "--batch: 0: give a whole number of at least 1"),
    ("step", "--steps=0", "--steps: 0: give"),
    ("step", "--image_size=64", "--image_size: 64: give 2 numbers"),
    ("step", "--image_size=64,a", "--image_size: a: give a whole number"),
    ("step", "--depths=1,1", "--depths: 1,1: give 4 numbers"),
    ("step", "--width=-8", "--width: -8: give"),
    ("step", "--variants=c2d,nonsense", "--variants: 'nonsense' is none of"),
    ("growth", "--devices=1,-1", "--devices: -1: give"),
    ("growth", "--steps=-1", "--steps: -1: give a whole number of at least 0"),
    ("growth", "--galleries=0", "--galleries: 0: give"),
    ("input", "--rounds=0", "--rounds: 0: give"),
    ("extraction", "--batches=0", "--batches: 0: give"),
    ("extraction", "--variant=nonsense", "'nonsense': choose one of c2d, nonlocal, .* \\(20 in all\\); see"),
    ("mars_rehearsal", "--steps=1.5", "--steps: 1.5: give"),
    ("tpu_compile", "--out=not/there.json", "--out: not/there.json: give a file in a folder that is there"),
]


@pytest.mark.parametrize("name, flag, said", _REFUSED)
def test_flags_are_refused(name, flag, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--out=out.json", flag, *(["--records=here"] if name == "input" else [])]
    with pytest.raises(InputError, match=said):
        importlib.import_module(f"benchmarks.{name}").main(flags)
    assert not any(tmp_path.iterdir())


def test_more_devices_than_there_are_are_refused_before_anything_is_compiled(tmp_path):
    with pytest.raises(InputError, match="--devices=64: JAX sees"):
        importlib.import_module("benchmarks.growth").main([f"--out={tmp_path / 'growth.json'}", "--devices=1,64"])


def test_costs_of_gradients_in_parts_are_refused(tmp_path):
    """Of a loop the compiler counts one turn."""
    with pytest.raises(InputError, match="--accumulate=2: .* leave it out"):
        importlib.import_module("benchmarks.growth").main([
            f"--out={tmp_path / 'growth.json'}", "--devices=1", "--accumulate=2"])
