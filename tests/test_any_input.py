"""Every reader of files and text of users takes any bytes: it returns, or says what is wrong. The long campaign is
`benchmarks.robustness.fuzz`; these are a few of its steps, without the guidance by coverage."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.robustness.fuzz_targets import TARGETS
from cfaan_jax.errors import InputError
from cfaan_jax.runtime.matlab import read_integers
from data_prep.datasets import FrameFiles
from tests.data_prep.checks import check_refused

_SLOW = {"overrides": 8, "index": 40, "records": 40, "torch": 80}


@st.composite
def damaged(draw, first):
    """One of the first inputs with pieces of it replaced, or put elsewhere, and perhaps cut short."""
    data = bytearray(draw(st.sampled_from(first)))
    for _ in range(draw(st.integers(0, 3))):
        start, end, place = sorted(draw(st.integers(0, len(data))) for _ in range(3))
        piece = draw(st.binary(max_size=9) | st.just(bytes(data[start:end])))
        data[place:place + draw(st.sampled_from((0, len(piece))))] = piece
    return bytes(data[:draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(tmp_path, name):
    first, call = TARGETS[name].make(tmp_path)
    call(first[0])  # as it is, it is good

    @settings(max_examples=_SLOW.get(name, 120), deadline=None, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(damaged(first))
    def check(data):
        try:
            call(data)
        except InputError as error:
            assert str(error)

    check()


@pytest.mark.parametrize("text", [
    "__import__('os').system('touch {mark}')", "!!python/object/apply:os.system [touch {mark}]", "$(touch {mark})",
    "[].__class__.__base__.__subclasses__()", "-" * 100_000 + "1"])
@pytest.mark.parametrize("field", ["data.image_size", "model.width"])
def test_code_in_a_setting_is_text(tmp_path, field, text):
    mark = tmp_path / "ran"
    _, call = TARGETS["overrides"].make(tmp_path)
    with pytest.raises(InputError):
        call(f"--config.{field}={text.format(mark=mark)}".encode())
    assert not mark.exists()


def test_pipes_and_devices_are_not_read(tmp_path):
    """A link to one in somebody's archive would hang a run, or fill its memory."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for number in range(2):
        with pytest.raises(InputError, match=r"\.jpg: frame . of its tracklet cannot be read \(not a regular file\)"):
            FrameFiles(tmp_path, ("pipe.jpg", "device.jpg"))(number)
    check_refused("device.jpg: cannot be read", read_integers, tmp_path / "device.jpg", "t")
