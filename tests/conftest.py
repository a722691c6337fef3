"""What tests of several packages share."""

from pathlib import Path

import pytest

from tests import tiny_records


@pytest.fixture(scope="session")
def records_directory(tmp_path_factory) -> Path:
    """A folder of tiny records, see `tiny_records.write_all`."""
    return tiny_records.write_all(tmp_path_factory.mktemp("records"))
