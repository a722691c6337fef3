"""What compiled programs cost, and the programs that TPUs would run, compiled without one."""

import json

import pytest

from benchmarks import compiled, growth, program
from cfaan_jax.errors import InputError
from tests.data_prep.checks import check_refused

PROGRAM = """
  %all-reduce.1 = (f32[8]{0:T(128)S(1)}, bf16[2,3]{1,0}) all-reduce(%a, %b), channel_id=1, to_apply=%sum
  %fusion = (f32[8]{0}, f32[8]{0}) fusion(%all-reduce.1, %c), kind=kLoop
  %all-gather.1 = f32[4,2]{1,0} all-gather(%p), channel_id=7, dimensions={0}
  %all-gather.2 = f32[4,2]{1,0} all-gather(%q), channel_id=7, dimensions={0}
  %start = (f32[2]{0}, f32[4]{0}) all-gather-start(%r), channel_id=8, dimensions={0}
  %done = f32[4]{0} all-gather-done(%start)
  ROOT %all-reduce.2 = s8[] all-reduce(%d), to_apply=%max
"""


def test_exchanges_are_counted_once_with_the_bytes_of_their_results():
    assert compiled.collectives(PROGRAM) == {"all-reduce": (2, 8 * 4 + 6 * 2 + 1), "all-gather": (2, 32 + 16)}


@pytest.mark.slow
def test_growth_is_measured_written_and_drawn(info, small, tmp_path):
    out = tmp_path / "growth.json"
    growth.main([f"--out={out}", f"--info={info}", *small, "--devices=1", "--steps=1", "--galleries=8,10",
                 "--tracklets=2,4"])
    content = json.loads(out.read_text())
    one, = content["devices"]
    assert one["collectives"] == {} and one["exchanged"] == 0
    # The inputs alone: 32 clips of 6 frames.
    assert one["held"] > one["arguments"] > 32 * 6 * 64 * 32 * 3 and one["seconds"] > 0
    assert [(row["gallery"], row["queries"]) for row in content["gallery"]] == [(8, 4), (10, 4)]
    assert [row["frames"] for row in content["records"]] == [3 + 4, 3 + 4 + 5 + 6]
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_steps_compile_for_four_chips(small, tmp_path):
    try:
        program.devices("v5e:2x2")
    except InputError as error:
        pytest.skip(str(error))
    out = tmp_path / "tpu.json"
    program.main([f"--out={out}", "--target=v5e:2x2", *small, "--compute=bfloat16"])
    training, evaluation = json.loads(out.read_text())["rows"]
    assert training["collectives"]["all-reduce"][0] > 10 and set(evaluation["collectives"]) <= {"all-gather"}
    # A quarter of 32 clips of 6 frames; less than the 16 GB of a chip.
    assert 8 * 6 * 64 * 32 * 3 < evaluation["arguments"] < training["arguments"] < training["held"] < 16e9


def test_a_slice_that_nobody_makes_is_refused():
    check_refused("--target=v5e:many: cannot be compiled for here", program.devices, "v5e:many")
