"""The wheel holds what the library and its commands need."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
_PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
_IMPORTS = """
import sys
sys.path.insert(0, sys.argv[1])
import cfaan_jax.report.page, data_prep.datasets
from cfaan_jax.experiment import config_file
files = (cfaan_jax.__file__, data_prep.__file__, str(config_file.find("mars")))
assert all(file.startswith(sys.argv[1]) for file in files)
assert cfaan_jax.FeatureExtractor.__name__ == "FeatureExtractor"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, because building leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "setup.py", "README.md", "requirements.txt"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("cfaan_jax", "configs", "data_prep"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([*_PIP, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={copy}", str(copy)], check=True)
    [path] = copy.glob("*.whl")
    return path


def test_the_wheel_holds_all_sources_and_templates(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    suffixes = (".py", ".typed", ".html", ".js", ".css", ".csv")
    wanted = {str(path.relative_to(REPOSITORY)) for name in ("cfaan_jax", "data_prep")
              for path in (REPOSITORY / name).rglob("*") if path.suffix in suffixes}
    assert wanted <= held and any(name.endswith(".html") for name in wanted)
    assert {f"cfaan_jax/configs/{path.name}" for path in (REPOSITORY / "configs").glob("*.py")} <= held
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == {"cfaan_jax", "data_prep"}


def test_the_wheel_asks_for_what_the_requirement_files_list(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        asked = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist")
    lines = [line.split("#")[0].replace(" ", "") for line in (REPOSITORY / "requirements.txt").read_text().splitlines()]
    plain = {"".join(sorted(line)) for line in lines if line}
    assert {"".join(sorted(each)) for each in asked if "extra ==" not in each} == plain
    extras = sorted(each.split("extra == ")[1] for each in asked if "extra ==" in each)
    assert extras == ['"lsvid"', '"onnx"', '"onnx"', '"ray"']


def test_an_installed_wheel_runs_away_from_the_repository(wheel, tmp_path):
    target = tmp_path / "installed"
    subprocess.run([*_PIP, "install", "--no-deps", f"--target={target}", str(wheel)], check=True)
    subprocess.run([sys.executable, "-I", "-c", _IMPORTS, str(target)], cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": str(target), "JAX_PLATFORMS": "cpu"}
    [folder] = target.rglob("configs")
    assert folder == target / "cfaan_jax/configs"
    for (command, *arguments), status, expected in (
            (["cfaan", "--help"], 0, "--"), (["cfaan-build-records", "--help"], 0, "--"),
            (["cfaan", "--config=mars:c2d", "--help"], 0, "--config.model.name=c2d"),
            (["cfaan", "--config=marz", "--workdir=x"], 2, "one of dukev, ide, mars, mars_pod, quickstart")):
        done = subprocess.run([target / "bin" / command, *arguments], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, check=False)
        assert done.returncode == status and expected in (done.stderr if status else done.stdout)
