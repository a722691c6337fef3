"""The network of a config, and the folder that belongs to it."""

import jax
import numpy as np
import pytest
from flax import nnx

from cfaan_jax.errors import InputError
from cfaan_jax.experiment import config_file
from cfaan_jax.experiment.config import create_model, load_config, save_or_check_config, weights_of
from cfaan_jax.experiment.recipes import VARIANTS
from tests.data_prep.checks import check_refused


def small(variant: str = "c2d"):
    config = config_file.load(f"quickstart:{variant}")
    config.data.update(records="records", image_size=(64, 32))
    config.model.update(width=8, depths=(1, 1, 1, 1))
    return config


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
    contents = []
    for _ in range(2):
        save_or_check_config(small(), tmp_path / "new/run")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "new/run").iterdir()})
    assert contents[0] == contents[1] and list(contents[0]) == ["config.json"]


def test_another_config_is_refused_with_the_fields_and_the_remedy(tmp_path):
    save_or_check_config(small(), tmp_path)
    other = small()
    other.optim.learning_rate, other.model.depths = 0.5, (1, 1, 2, 1)
    with pytest.raises(InputError) as refused:
        save_or_check_config(other, tmp_path)
    text = str(refused.value)
    assert "config.json" in text and "another --workdir" in text
    assert "config.optim.learning_rate=0.5 (there 0.001)" in text
    assert "config.model.depths=(1, 1, 2, 1) (there (1, 1, 1, 1))" in text
    assert text.count("(there ") == 2


def test_how_a_run_is_scored_and_read_may_change(tmp_path):
    save_or_check_config(small(), tmp_path)
    other = small()
    other.eval.update(weights="best", corrections="file.csv", protocols=("mars_matlab",))
    other.data.workers, other.train.profile, other.train.loggers = 7, (1, 2), ()
    save_or_check_config(other, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1", "[1]", "7", "{}", '{"model": 1}', "[" * 10_000])
def test_a_damaged_config_names_the_file(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    check_refused(r"config\.json: not a config", load_config, tmp_path)


def test_a_folder_without_config_is_no_workdir(tmp_path):
    check_refused(r"config\.json is missing.*not the workdir", load_config, tmp_path)


def test_weights_from_a_file_are_not_called_untrained():
    config = small()
    for pretrained, weights, said in (("none", "untrained", "untrained"), ("a.pth", "untrained", "pretrained"),
                                      ("a.pth", "last", "last")):
        config.model.pretrained, config.eval.weights = pretrained, weights
        assert weights_of(config) == said
