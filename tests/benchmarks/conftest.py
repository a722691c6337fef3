"""What tests of several benchmarks share."""

import numpy as np
import pytest

from data_prep.datasets import mars


@pytest.fixture(scope="session")
def info(tmp_path_factory):
    """Metadata of a tiny set: eight identities to train on, four to search for, junk and a distractor."""
    folder = tmp_path_factory.mktemp("info")
    people = {"train": np.repeat(np.arange(1, 9), 2), "test": np.r_[-1, 0, np.repeat(np.arange(11, 15), 3)]}
    for part, pids in people.items():
        names = [[f"{pid:04}C1T{row:04}F{k:03}.jpg" for k in range(3 + row % 5)] for row, pid in enumerate(pids)]
        mars.write_info(folder, mars.list_files(part, names, pids, 1 + np.arange(len(pids)) % 6))
    mars.write_info(folder, mars.query_file([2, 5, 8, 11]))
    return folder


@pytest.fixture
def small() -> list[str]:
    """The flags of a small network."""
    return ["--variant=c2d", "--width=8", "--depths=1,1,1,1", "--image_size=64,32", "--workers=1"]
