"""Configs and the folder that belongs to one."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.experiment import config_file, fields
from cfaan_jax.experiment.config import create_model, load_config, save_or_check_config, weights_of
from cfaan_jax.experiment.fields import check, flatten
from cfaan_jax.experiment.recipes import VARIANTS, ide_recipe, recipe
from cfaan_jax.train import losses, optim


def small(variant: str = "c2d"):
    config = config_file.load(f"quickstart:{variant}")
    config.data.records = "records"
    config.model.update(width=8, depths=(1, 1, 1, 1))
    config.data.image_size = (64, 32)
    return config


def test_the_recipe_of_mars_is_the_papers():
    config = recipe()
    assert (config.data.identities, config.data.tracklets, config.data.clip_length) == (8, 4, 6)
    assert tuple(config.data.image_size) == (256, 128)
    assert (config.optim.learning_rate, config.optim.weight_decay, config.optim.gamma) == (1e-4, 5e-5, 0.1)
    assert tuple(config.optim.milestones) == (50, 100, 150, 200) and config.optim.warmup_epochs == 0
    assert (config.model.name, config.model.scales, config.model.heads) == ("cfaan", 4, 8)
    assert (config.loss.triplet_weight, config.loss.id_weight, config.loss.margin) == (1, 1, None)
    assert config.eval.clips == "all_sampled"


@pytest.mark.parametrize("name", ["mars", "dukev", "quickstart", "mars_pod"])
def test_every_config_has_the_fields_of_the_recipe(name):
    def names(config) -> list[str]:
        return [name for name in flatten(config.to_dict()) if not name.startswith("model.")]

    for variant in VARIANTS:
        assert names(config_file.load(f"{name}:{variant}")) == names(recipe()), variant


def test_the_table_describes_every_field_and_its_defaults_are_good():
    for variant in VARIANTS:
        config = recipe(variant)
        described = {f"model.{name}" for name in fields.NETWORK_OPTIONS} | set(flatten(fields.FIELDS))
        assert set(flatten(config.to_dict())) <= described
        assert max(map(len, "\n".join(fields.describe(config)).splitlines())) <= 120
        fields.check_fields(config)
    assert fields.TRIPLET_DISTANCES == tuple(losses.DISTANCES)


def test_ide_learns_single_frames_by_cross_entropy_alone():
    for config in (ide_recipe(), config_file.load("ide"), config_file.load("quickstart:ide")):
        assert (config.model.name, config.data.clip_length) == ("ide", 1)
        assert (config.loss.triplet_weight, config.loss.id_weight) == (0, 1)


def test_an_unknown_variant_lists_those_there_are():
    with pytest.raises(InputError, match="'cfan'.*c2d, nonlocal"):
        recipe("cfan")


@pytest.mark.parametrize("variant", [*VARIANTS, "ide"])
def test_the_same_config_makes_the_same_network_also_through_the_file(tmp_path, variant):
    config = small(variant)
    save_or_check_config(config, tmp_path)
    one, other = (nnx.state(create_model(each, 5)) for each in (config, load_config(tmp_path)))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    config.seed = 1
    different = nnx.state(create_model(config, 5))
    assert not all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (one, different)), strict=True))


def test_a_folder_takes_its_own_config_again(tmp_path):
    save_or_check_config(small(), tmp_path / "new" / "run")
    before = (tmp_path / "new/run/config.json").read_bytes()
    save_or_check_config(small(), tmp_path / "new" / "run")
    assert (tmp_path / "new/run/config.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "new/run").iterdir()] == ["config.json"]


def test_another_config_is_refused_with_the_fields_and_the_remedy(tmp_path):
    save_or_check_config(small(), tmp_path)
    other = small()
    other.optim.learning_rate, other.model.depths = 0.5, (1, 1, 2, 1)
    with pytest.raises(InputError) as refused:
        save_or_check_config(other, tmp_path)
    text = str(refused.value)
    assert "config.json" in text and "another --workdir" in text
    assert "config.optim.learning_rate: 0.001 there, 0.5 now" in text
    assert "config.model.depths: (1, 1, 1, 1) there, (1, 1, 2, 1) now" in text
    assert text.count(" there, ") == 2


def test_how_a_run_is_scored_and_read_may_change(tmp_path):
    save_or_check_config(small(), tmp_path)
    other = small()
    other.eval.update(weights="best", corrections="file.csv", protocols=("mars_matlab",))
    other.data.workers, other.train.profile, other.train.loggers = 7, (1, 2), ()
    save_or_check_config(other, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1", "[1]", "7", "{}", '{"model": 1}', "[" * 10_000])
def test_a_damaged_config_names_the_file(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json: not readable"):
        load_config(tmp_path)


def test_a_folder_without_config_is_no_workdir(tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing.*not the workdir"):
        load_config(tmp_path)


def test_weights_from_a_file_are_not_called_untrained():
    config = small("c2d")
    config.model.pretrained, config.eval.weights = "none", "untrained"
    assert weights_of(config) == "untrained"
    config.model.pretrained = "a.pth"
    assert weights_of(config) == "pretrained"
    config.eval.weights = "last"
    assert weights_of(config) == "last"


@pytest.mark.parametrize("field, value, message", [
    ("data.records", "", r"--config\.data\.records=FOLDER"),
    ("seed", -1, "seed=-1"),
    ("seed", 2**70, "must lie between 0 and 2147483647"),
    ("optim.learning_rate", -1.0, "learning_rate=-1.0: must lie between 0 and"),
    ("optim.weight_decay", -1.0, "weight_decay=-1.0: must lie between 0 and"),
    ("eval.max_rank", "x", "max_rank='x': must be a whole number"),
    ("eval.rerank", 1, "rerank=1: must be True or False"),
    ("model.width", 0, "width=0: must lie between 1 and"),
    ("model.depths", (1, 0, 1, 1), "depths=.*must lie between 1 and"),
    ("optim.gamma", -1.0, "gamma=-1.0: must lie between 0 and 1"),
    ("optim.gamma", float("nan"), "gamma=nan: must lie"),
    ("optim.milestones", (10**11,), "milestones=.*must lie between 1 and 1000000"),
    ("loss.smoothing", 2.0, "smoothing=2.0: must lie"),
    ("loss.margin", float("nan"), "margin=nan: must lie"),
    ("loss.triplet_weight", -1.0, "triplet_weight=-1.0: must lie"),
    ("augment.erasing_area", (0.5,), "erasing_area=.*give the lowest and the highest"),
    ("augment.erasing_aspect", (2.0, 0.5), "erasing_aspect=.*give the lowest and the highest"),
    ("train.checkpoint_every", -1, "checkpoint_every=-1: must lie"),
    ("train.evaluate_every", -1, "evaluate_every=-1: must lie"),
    ("eval.max_rank", 0, "max_rank=0: must lie between 1 and"),
    ("model.bn_groups", 3, "bn_groups=3 does not divide the batch of 16"),
    ("train.accumulate", 0, "accumulate=0"),
    ("train.accumulate", 3, "accumulate=3: every part must hold whole identities"),
    ("train.accumulate", 4, "accumulate=4: every part.*at least two.*identities=4"),
    ("data.workers", 0, "workers=0: must be at least 1"),
    ("train.epochs", 0, "epochs=0"),
    ("train.loggers", ("tensorboard", "paper"), "choose among tensorboard, wandb, mlflow"),
    ("train.profile", (3,), r"train\.profile=\(3,\): give the first and the last step"),
    ("train.profile", (0, 2), r"train\.profile=\(0, 2\)"),
    ("data.clip_length", 0, "clip_length=0"),
    ("data.identities", 0, "identities=0"),
    ("augment.erasing", 5.0, "erasing=5.0: must lie between 0 and 1"),
    ("eval.batch", 0, r"eval\.batch=0"),
    ("eval.report_lists", 0, r"eval\.report_lists=0"),
    ("eval.clips", "foo", "clips='foo': choose one of test, test_0"),
    ("train.evaluate_clips", "foo", "evaluate_clips='foo': choose one of test, test_0"),
    ("model.head", "foo", "head=.foo.: choose one of own, cfaan"),
    ("model.name", "foo", "name=.foo.: choose one of c2d"),
    ("data.sampling", "foo", "sampling='foo': choose one of restricted"),
    ("data.epoch_of", "foo", "epoch_of='foo': choose one of identities"),
    ("loss.triplet_distance", "foo", "triplet_distance='foo': choose one of euclidean"),
    ("eval.distance", "foo", "distance='foo': choose one of cosine"),
    ("loss.osm_caa_weight", 1.0, "osm_caa_weight=1.0 needs the centres.*centre_weight"),
    ("loss.attention_weight", 1.0, "attention_weight=1.0: c2d does not weigh its frames"),
    ("data.image_size", ("a", "b"), r"image_size=\('a', 'b'\): give whole numbers"),
    ("optim.milestones", (1.5,), r"milestones=\(1.5,\): give whole numbers"),
    ("train.profile", ("1", "2"), r"profile=\('1', '2'\): give whole numbers"),
    ("augment.erasing_area", ("a", 1.0), "erasing_area=.*: give numbers"),
    ("eval.protocols", (1, 2), r"protocols=\(1, 2\): give names"),
    ("eval.corrections", "absent.csv", "corrections=absent.csv: no such file"),
])
def test_values_that_no_run_can_work_with_are_named(field, value, message):
    config = small()
    check(config)
    *path, name = field.split(".")
    part = config
    for section in path:
        part = part[section]
    with part.ignore_type():
        part[name] = value
    with pytest.raises(InputError, match=message):
        check(config)


def test_a_missing_field_is_named():
    config = small()
    del config.data.workers
    with pytest.raises(InputError, match="config.data.workers is missing; begin with the config of configs/mars.py"):
        check(config)


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


@pytest.mark.parametrize("words", [
    ["--config.data.processes=False"], ["--config.data.processes"],
    ["--noconfig.data.processes"]])
def test_retired_fields_on_the_command_line_are_ignored(told, words):
    config = small()
    assert config_file.override(config, ["--config.seed=3", *words, "left"]) == ({"seed": 3}, ["left"])
    assert config.seed == 3 and "processes" not in config.data and told() == ["config.data.processes"]


def test_retired_fields_of_somebodys_own_file_are_ignored(tmp_path, told):
    path = tmp_path / "own.py"
    path.write_text("from cfaan_jax.experiment.recipes import recipe\n\ndef get_config():\n    config = recipe()\n"
                    "    config.data.cache = True\n    return config\n")
    config = config_file.load(str(path))
    assert "cache" not in config.data and told() == ["config.data.cache"]


@pytest.mark.parametrize("words, field, value", [
    (["--config.model.inter_channels=64"], "inter_channels", 64), (["--config.model.remat"], "remat", True),
    (["--config.model.depths=(1,2,1,1)"], "depths", (1, 2, 1, 1)), (["--config.model.depths", "1,2,1,1"], "depths",
                                                                   (1, 2, 1, 1))])
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


def test_no_loss_at_all_is_named():
    config = small()
    config.loss.update(triplet_weight=0.0, id_weight=0.0)
    with pytest.raises(InputError, match="both 0: nothing is learnt; set one"):
        check(config)


def test_one_identity_in_a_batch_needs_the_loss_of_identities():
    config = small()
    config.data.identities = 1
    check(config)
    config.loss.id_weight = 0.0
    with pytest.raises(InputError, match="config.data.identities=1: without config.loss.id_weight"):
        check(config)


def test_mistyped_names_find_their_neighbours():
    names = list(flatten(recipe().to_dict()))
    assert "model.width" in config_file.nearest("model.widht", names)
    assert "model.width" in config_file.nearest("modle.width", names)
    assert config_file.nearest("learning_rat", names) == ["optim.learning_rate"]
    assert config_file.nearest("zzz", names) == []


def test_configs_can_be_written_as_json():
    for name in ("mars", "dukev", "ide", "quickstart"):
        json.dumps(config_file.load(name).to_dict())


def test_the_recipe_of_many_devices_has_batches_eight_times_as_large():
    small, large = recipe(), config_file.load("mars_pod")
    large.data.records = "records"
    check(large)
    assert large.data.identities * large.data.tracklets == 8 * small.data.identities * small.data.tracklets == 256
    groups = [config.data.identities * config.data.tracklets // config.model.bn_groups for config in (small, large)]
    assert groups == [32, 32]
    first, later = (float(optim.learning_rate(large.optim, 9)(step)) for step in (0, 9 * 5))
    assert first == pytest.approx(small.optim.learning_rate) and later == pytest.approx(8 ** 0.5 * first)
