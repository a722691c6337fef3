"""Config files by path and by name, settings of the command line, and fields of earlier releases."""

import json
from pathlib import Path

import pytest

from cfaan_jax.experiment import config_file, fields
from cfaan_jax.experiment.config import load_config, save_or_check_config
from cfaan_jax.experiment.fields import flatten
from cfaan_jax.experiment.recipes import recipe
from tests.data_prep.checks import check_refused
from tests.experiment.test_config import small


@pytest.fixture
def told(capsys):
    """What was printed of fields that are ignored."""
    fields._say_once.cache_clear()
    return lambda: [line.split()[0] for line in capsys.readouterr().err.splitlines() if "is ignored" in line]


def test_retired_fields_of_a_stored_config_are_ignored_and_said_once(tmp_path, told):
    stored = small().to_dict()
    stored["data"] |= {"processes": True, "cache": False}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    save_or_check_config(small(), tmp_path)
    assert load_config(tmp_path).to_dict() == small().to_dict()
    assert told() == ["config.data.processes", "config.data.cache"]


@pytest.mark.parametrize("word", [
    "--config.data.processes=False", "--config.data.processes", "--noconfig.data.processes"])
def test_retired_fields_on_the_command_line_are_ignored(told, word):
    config = small()
    assert config_file.override(config, ["--config.seed=3", word, "left"]) == ({"seed": 3}, ["left"])
    assert config.seed == 3 and "processes" not in config.data and told() == ["config.data.processes"]


def test_retired_fields_of_somebodys_own_file_are_ignored(tmp_path, told):
    path = tmp_path / "own.py"
    path.write_text("from cfaan_jax.experiment.recipes import recipe\n\ndef get_config():\n    config = recipe()\n"
                    "    config.data.cache = True\n    return config\n")
    assert "cache" not in config_file.load(str(path)).data and told() == ["config.data.cache"]


@pytest.mark.parametrize("words, field, value", [
    (["--config.model.inter_channels=64"], "inter_channels", 64), (["--config.model.remat"], "remat", True),
    (["--config.model.depths=(1,2,1,1)"], "depths", (1, 2, 1, 1)),
    (["--config.model.depths", "1,2,1,1"], "depths", (1, 2, 1, 1))])
def test_settings_are_read_by_the_type_of_their_field(words, field, value):
    config = recipe()
    assert config_file.override(config, words) == ({f"model.{field}": value}, [])
    assert config.model[field] == value


@pytest.mark.parametrize("name", ["mars", "configs/mars.py"])
def test_configs_are_found_by_name_from_any_folder(tmp_path, monkeypatch, name):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root if "/" in name else tmp_path)
    assert config_file.load(f"{name}:c2d").model.name == "c2d"
    assert config_file.find("quickstart") == root / "configs/quickstart.py"


def test_mistyped_names_find_their_neighbours():
    names = list(flatten(recipe().to_dict()))
    assert all("model.width" in config_file.nearest(typed, names) for typed in ("model.widht", "modle.width"))
    assert config_file.nearest("learning_rat", names) == ["optim.learning_rate"]
    assert config_file.nearest("zzz", names) == []


@pytest.mark.parametrize("word, said", [
    ("--config.model.remat=maybe", "remat=maybe.*give True or False"),
    ("--config.optim.learning_rate=abc", "learning_rate=abc.*give a number"),
    ("--config.optim.learning_rate", "Missing value.*learning_rate; give a number")])
def test_values_of_another_type_are_refused_with_the_type(word, said):
    check_refused(said, config_file.override, recipe(), [word])


def test_a_variant_of_a_config_without_any_is_refused():
    check_refused("--config=ide:c2d: this config has no variants; write --config=ide$", config_file.load, "ide:c2d")
