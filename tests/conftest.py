"""What tests of several packages share."""

import os
import shutil
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Set before JAX is imported, also for processes that tests start: nearly all programs here run once or twice, and
# compile in a third of the time. The last flag is one that later compilers no longer have.
os.environ.setdefault("XLA_FLAGS", " ".join((
    "--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
    *["--xla_cpu_use_fusion_emitters=false"] * (tuple(map(int, version("jax").split(".")[:2])) < (0, 12)))))

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


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Debian's Chromium without a window; its downloads go to `chromium.downloads`."""
    from selenium import webdriver

    browser, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("needs chromium and chromedriver on PATH (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    profile, downloads = tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads")
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run",
                 "disable-background-networking", "disable-component-update", "disable-sync",
                 f"user-data-dir={profile}", "window-size=1280,800"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    chromium.downloads = downloads
    yield chromium
    chromium.quit()
