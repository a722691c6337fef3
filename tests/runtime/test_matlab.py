"""Whole numbers from MATLAB files, as SciPy writes them and as nobody does."""

import io

import numpy as np
import pytest
import scipy.io

from cfaan_jax.runtime import matlab
from cfaan_jax.runtime.matlab import read_integers
from tests.data_prep.checks import check_refused

TABLE = np.arange(-3, 21).reshape(6, 4)


def written(table: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"words": "some words", "table": table} if options.get("format") != "4" else
                     {"first": np.eye(2), "table": table}, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
@pytest.mark.parametrize("kind", ["f8", "f4", "i4", "i2"])
@pytest.mark.parametrize("table", [TABLE, TABLE[:1], TABLE[:, :1], TABLE[:1, :1]])
def test_a_table_comes_back(tmp_path, options, kind, table):
    (tmp_path / "one.mat").write_bytes(written(table.astype(kind), **options))
    found = read_integers(tmp_path / "one.mat", "table")
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, table)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e300])
def test_other_numbers_are_refused(tmp_path, value):
    (tmp_path / "one.mat").write_bytes(written(np.array([[1.0, value]])))
    check_refused("one.mat: table has values that are not whole numbers", read_integers, tmp_path / "one.mat", "table")


def test_a_variable_that_unpacks_to_more_than_is_sensible_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "_LARGEST", 2**20)
    (tmp_path / "bomb.mat").write_bytes(written(np.zeros((2**9, 2**10)), do_compression=True))
    assert (tmp_path / "bomb.mat").stat().st_size < 2**14
    check_refused("a variable of more than", read_integers, tmp_path / "bomb.mat", "table")
