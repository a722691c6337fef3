"""The golden files, case by case: what the authors' code gave for seeded random weights (float32, torch, on a CPU).

An entry is named `<case>/<what>`; `meta` holds the settings of each case and the noise of each array: how far the
reference's own float32 run lies from its float64 run.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "golden"


@lru_cache
def read(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and meta data of a file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads(str(arrays.pop("meta")))


@lru_cache
def torch_names(system: str = "") -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
    """{network: {torch's name: (shape, type)}} as the authors' code has them; `system`: empty for the paper's own."""
    listed = json.loads((FOLDER / f"state_dict_keys{system and '_'}{system}.json").read_text())
    return {{"p3dc": "p3d"}.get(network, network): {each["name"]: (tuple(each["shape"]), each["dtype"])
                                                     for each in entries} for network, entries in listed.items()}


def names(file: str) -> list[str]:
    """The cases of a file."""
    cases = sorted(read(file)[1]["cases"])
    assert cases, f"{file} holds no case"
    return cases


@dataclass(frozen=True)
class Case:
    """One case of a file."""

    file: str
    name: str

    @property
    def settings(self) -> dict:
        return read(self.file)[1]["cases"][self.name]

    def __getitem__(self, what: str) -> np.ndarray:
        return read(self.file)[0][f"{self.name}/{what}"]

    def group(self, what: str) -> dict[str, np.ndarray]:
        """All entries `<case>/<what>/<rest>` by their rest."""
        prefix = f"{self.name}/{what}/"
        return {key.removeprefix(prefix): array for key, array in read(self.file)[0].items() if key.startswith(prefix)}

    def check(self, what: str, found) -> None:
        """Fails unless an array is the reference's up to rounding.

        The tolerance is 20 * noise + 1e-4 * max|reference|, so a gradient that is 0 in exact arithmetic, and holds
        noise only, is compared by its noise.
        """
        expected, found = self[what], np.asarray(found)
        assert found.shape == expected.shape, f"{what}: shape {found.shape} instead of {expected.shape}"
        noise = read(self.file)[1]["noise"][f"{self.name}/{what}"]
        off, allowed = np.abs(found - expected).max(), 20 * noise + 1e-4 * np.abs(expected).max()
        assert off <= allowed, f"{what}: off by {off:.3g}, allowed {allowed:.3g}"


def channels_last(maps: np.ndarray) -> np.ndarray:
    """`[B, C, T, H, W]` as the files have it -> `[B, T, H, W, C]` as the models have it."""
    return np.moveaxis(maps, 1, -1)


def channels_first(maps) -> np.ndarray:
    """The way back."""
    return np.moveaxis(np.asarray(maps), -1, 1)
