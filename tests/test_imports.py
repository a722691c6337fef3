"""The one rule of imports: from a room only to those below it. docs/extend and CONTRIBUTING.md show the house."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# The rooms of cfaan_jax from the top down; those of one line do not import each other.
FLOORS = (
    {"main", "tables", "privacy"},
    {"deploy"},
    {"train"},
    {"evaluate"},
    {"report"},
    {"experiment"},
    {"weights"},
    {"models", "metrics", "data"},
    {"runtime"},
    {"errors"},
)
FORWARDING = {"__init__", "demo", "features", "flops", "forget", "saved_model"}  # commands and names of before
LEFT_OUT = {"torch", "torchvision", "ultralytics", "tensorflow"}  # nothing imports them when it is itself imported


def imported(path: Path, whole: bool) -> Iterator[str]:
    """The modules that a file imports, by their dotted names; `whole`: also those imported inside functions."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if whole else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports with their full names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> int:
    return -1 if name in FORWARDING else next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def room(path: Path) -> str:
    return path.relative_to(REPOSITORY / "cfaan_jax").parts[0].removesuffix(".py")


FILES = sorted((REPOSITORY / "cfaan_jax").rglob("*.py"))


def test_every_room_has_a_floor():
    assert set(map(room, FILES)) - FORWARDING == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_go_downwards(path):
    own = room(path)
    for module in imported(path, whole=True):
        package, other, *_ = f"{module}.".split(".")
        assert package not in ("data_prep", "configs", "tests", "benchmarks"), f"{path} imports {module}"
        if package == "cfaan_jax" and other != own:
            assert floor(own) < floor(other), f"{path}: {own} lies below {other}, which it imports"


@pytest.mark.parametrize("folder, allowed", [("data_prep", {"cfaan_jax", "data_prep"}), ("configs", {"cfaan_jax"})])
def test_what_stands_beside_cfaan_jax_imports_it(folder, allowed):
    ours = {"cfaan_jax", "data_prep", "configs", "benchmarks", "tests"}
    for path in (REPOSITORY / folder).rglob("*.py"):
        packages = {module.split(".")[0] for module in imported(path, whole=True)}
        assert packages & ours <= allowed, f"{path} imports {packages & ours - allowed}"


def test_heavy_packages_are_imported_only_where_they_are_used():
    for path in FILES:
        packages = {module.split(".")[0] for module in imported(path, whole=False)}
        assert not packages & LEFT_OUT, f"{path} imports {packages & LEFT_OUT} when it is imported"


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "launch", "cfaan_jax", "data_prep", "configs"])
def test_what_is_imported_exists(folder):
    """Most of `benchmarks` and `docs` runs in no other test."""
    for path in sorted((REPOSITORY / folder).rglob("*.py")):
        for module in imported(path, whole=True):
            package, _, name = module.rpartition(".")
            if package.split(".")[0] in ("cfaan_jax", "data_prep", "benchmarks"):
                try:
                    exists = hasattr(importlib.import_module(package), name) or importlib.util.find_spec(module)
                except ModuleNotFoundError as error:
                    exists = error.name in LEFT_OUT  # which need not be installed
                assert exists, f"{path}: there is no {module}"
