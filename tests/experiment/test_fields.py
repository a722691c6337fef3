"""The table of fields: defaults, checks and descriptions."""

import pytest

from cfaan_jax.experiment import fields
from cfaan_jax.experiment.fields import check, flatten
from cfaan_jax.experiment.recipes import VARIANTS, recipe
from cfaan_jax.train import losses
from tests.data_prep.checks import check_refused
from tests.experiment.test_config import small


def test_the_table_describes_every_field_and_its_defaults_are_good():
    for variant in VARIANTS:
        config = recipe(variant)
        described = {f"model.{name}" for name in fields.NETWORK_OPTIONS} | set(flatten(fields.FIELDS))
        assert set(flatten(config.to_dict())) <= described
        assert max(map(len, "\n".join(fields.describe(config)).splitlines())) <= 120
        fields.check_fields(config)
    assert fields.TRIPLET_DISTANCES == tuple(losses.DISTANCES)


@pytest.mark.parametrize("field, value, message", [
    ("data.records", "", r"--config\.data\.records=FOLDER"), ("seed", -1, "seed=-1"),
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
    ("loss.smoothing", 2.0, "smoothing=2.0: must lie"), ("loss.margin", float("nan"), "margin=nan: must lie"),
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
    ("data.workers", 0, "workers=0: must be at least 1"), ("train.epochs", 0, "epochs=0"),
    ("train.loggers", ("tensorboard", "paper"), "choose among tensorboard, wandb, mlflow"),
    ("train.profile", (3,), r"train\.profile=\(3,\): give the first and the last step"),
    ("train.profile", (0, 2), r"train\.profile=\(0, 2\)"),
    ("data.clip_length", 0, "clip_length=0"), ("data.identities", 0, "identities=0"),
    ("augment.erasing", 5.0, "erasing=5.0: must lie between 0 and 1"),
    ("eval.batch", 0, r"eval\.batch=0"), ("eval.report_lists", 0, r"eval\.report_lists=0"),
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
    ("eval.corrections", "absent.csv", "corrections=absent.csv: no such file")])
def test_values_that_no_run_can_work_with_are_named(field, value, message):
    config = small()
    check(config)
    with config.ignore_type():
        config.update_from_flattened_dict({field: value})
    check_refused(message, check, config)


def test_a_missing_field_is_named():
    config = small()
    del config.data.workers
    check_refused("config.data.workers is missing; begin with the config of configs/mars.py", check, config)


def test_losses_that_learn_nothing_are_named():
    config = small()
    config.data.identities = 1
    check(config)
    config.loss.id_weight = 0.0
    check_refused("config.data.identities=1: without config.loss.id_weight", check, config)
    config = small()
    config.loss.update(triplet_weight=0.0, id_weight=0.0)
    check_refused("both 0: nothing is learnt; set one", check, config)
