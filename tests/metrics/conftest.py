import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mars_info() -> Path:
    """Folder of MARS's own query_IDX.mat and tracks_{test,train}_info.mat, whose licence forbids shipping them."""
    if "CFAAN_MARS_INFO" not in os.environ:
        pytest.skip("needs MARS's info files: set CFAAN_MARS_INFO to the folder that holds query_IDX.mat")
    return Path(os.environ["CFAAN_MARS_INFO"])
