"""What tests of several packages share."""

import os
from pathlib import Path

# Set before JAX is imported: nearly all programs here run once or twice, and compile in a fraction of the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest

from tests import tiny_records


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
    """Without this, the programs of all tests fill gigabytes by the end."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def records_directory(tmp_path_factory) -> Path:
    """A folder of tiny records, see `tiny_records.write_all`."""
    return tiny_records.write_all(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def mars_info() -> Path:
    """Folder of MARS's own query_IDX.mat and tracks_{test,train}_info.mat, which have no licence to ship them."""
    if "CFAAN_MARS_INFO" not in os.environ:
        pytest.skip("needs MARS's info files: set CFAAN_MARS_INFO to the folder that holds query_IDX.mat")
    return Path(os.environ["CFAAN_MARS_INFO"])
