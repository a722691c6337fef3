"""Recipes, and the config files that take them."""

import json

import numpy as np
import pytest

from cfaan_jax.experiment import config_file
from cfaan_jax.experiment.fields import check, flatten
from cfaan_jax.experiment.recipes import VARIANTS, ide_recipe, recipe
from cfaan_jax.train import optim
from tests.data_prep.checks import check_refused


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
def test_every_config_has_the_fields_of_the_recipe_and_can_be_written_as_json(name):
    def names(config) -> list[str]:
        return [name for name in flatten(config.to_dict()) if not name.startswith("model.")]

    for variant in VARIANTS:
        config = config_file.load(f"{name}:{variant}")
        assert names(config) == names(recipe()), variant
        json.dumps(config.to_dict())


def test_ide_learns_single_frames_by_cross_entropy_alone():
    for config in (ide_recipe(), config_file.load("ide"), config_file.load("quickstart:ide")):
        assert (config.model.name, config.data.clip_length) == ("ide", 1)
        assert (config.loss.triplet_weight, config.loss.id_weight) == (0, 1)
        json.dumps(config.to_dict())


def test_an_unknown_variant_lists_those_there_are():
    check_refused("'cfan'.*c2d, nonlocal", recipe, "cfan")


def test_the_recipe_of_many_devices_has_batches_eight_times_as_large():
    small, large = recipe(), config_file.load("mars_pod")
    large.data.records = "records"
    check(large)
    assert large.data.identities * large.data.tracklets == 8 * small.data.identities * small.data.tracklets == 256
    groups = [config.data.identities * config.data.tracklets // config.model.bn_groups for config in (small, large)]
    assert groups == [32, 32]
    first, later = (float(optim.learning_rate(large.optim, 9)(step)) for step in np.int32([0, 9 * 5]))
    assert first == pytest.approx(small.optim.learning_rate) and later == pytest.approx(8 ** 0.5 * first)
