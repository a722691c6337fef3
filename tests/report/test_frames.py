import numpy as np
import pytest

from cfaan_jax.data.records import RecordSet
from cfaan_jax.errors import InputError
from cfaan_jax.report.frames import RawQueries, fit_into_cell, read_stored
from tests import tiny_records


def record(sources: tuple[str, ...]):
    rng = np.random.default_rng(len(sources))
    frames = [tiny_records.frame(rng, 1) for _ in sources]
    return tiny_records.tracklet("walk", "query", 0, 1, 1, frames, sources=sources)


def test_raw_frames_are_read_by_their_sources(tmp_path):
    tiny_records.write(tmp_path, [record(("a", "b", "c"))])
    stored = read_stored(RecordSet.open(tmp_path, "query"), 0, range(3))
    frames = RawQueries(tmp_path, ["walk"]).sources_of(record(("c", "a")), [1, 0, 0])
    for frame, k in zip(frames, (0, 2, 2), strict=True):
        np.testing.assert_array_equal(frame, stored[k])


def test_frames_of_other_sources_are_refused(tmp_path):
    tiny_records.write(tmp_path, [record(("a", "b"))])
    with pytest.raises(InputError, match="query walk has no frame z; config.eval.raw_records must name the same data"):
        RawQueries(tmp_path, ["walk"]).sources_of(record(("a", "z")), [0, 1])


@pytest.mark.parametrize("size, inside", [((64, 32), (40, 20)), ((10, 40), (5, 20)), ((400, 10), (40, 1))])
def test_a_frame_keeps_its_aspect_ratio(size, inside):
    cell = np.asarray(fit_into_cell(np.full((*size, 3), 255, np.uint8), 40, 20, "black"))
    rows, columns = (cell[..., 0] > 127).any(1).sum(), (cell[..., 0] > 127).any(0).sum()
    assert cell.shape == (40, 20, 3) and (rows, columns) == inside
