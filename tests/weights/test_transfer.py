"""Weights under torch's names: both ways, strictly, and from a plain ImageNet ResNet-50."""

import json
import re

import jax
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models, weights
from cfaan_jax.errors import InputError
from tests.data_prep.checks import check_refused
from tests.golden import weightgen
from tests.golden_cases import FOLDER, torch_names
from tests.models.transplants import small_network
from tests.weights.test_files import assert_same

TINY = dict(scales=2, heads=2)
# {network: ({name: (shape, type)}, how many identities the listed network has)}
SHIPPED = {network: (entries, 10 if system == "ap3d" else 625) for system in ("", "ap3d", "tclnet", "ftwft")
           for network, entries in torch_names(system).items()}
VARIANTS = json.loads((FOLDER / "state_dict_keys_variants.json").read_text())


def drawn(model: models.VideoReID, salt: int = 1) -> dict[str, np.ndarray]:
    """Other weights for a network, and other counters of batches."""
    shapes = {name: array.shape for name, array in weights.to_torch(model).items()}
    counters = {name: np.array(1000 + k) for k, name in enumerate(shapes) if name.endswith(".num_batches_tracked")}
    return weightgen.draw_all(shapes, salt) | counters


def check_round_trip(model: models.VideoReID) -> dict[str, np.ndarray]:
    """Fails unless a network keeps every bit of other weights; returns these."""
    expected = drawn(model)
    weights.load_torch(model, expected)
    assert_same(weights.to_torch(model), expected)
    return expected


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_names_shapes_and_types_are_those_of_the_released_file(name):
    entries, classes = SHIPPED[name]
    model = models.create(name, num_classes=classes, image_size=(224, 112) if name == "ftwft" else (256, 128))
    assert {key: (array.shape, str(array.dtype)) for key, array in weights.to_torch(model).items()} == entries
    check_round_trip(model)


@pytest.mark.parametrize("name, options", [
    ("cfaan", TINY | dict(inter_channels=16)), ("cfaan", TINY | dict(positional="relative_q")),
    ("cfaan", TINY | dict(positional="none")), ("nonlocal", dict(sub_sample=True))])
def test_every_option_goes_there_and_back(name, options):
    check_round_trip(small_network(name, **options))


def test_a_classifier_with_as_many_identities_as_channels_is_transposed():
    model = small_network("c2d", num_classes=64 * 4)
    given = check_round_trip(model)
    np.testing.assert_array_equal(model.head.classifier[...], given["classifier.weight"].T)


@pytest.mark.slow
@pytest.mark.parametrize("variant, options", [
    ("cfaan_S1", dict(scales=1)), ("cfaan_S2", dict(scales=2)),
    ("axial_S1_sine", dict(scales=1, positional="sinusoidal")),
    ("axial_S1_nopos", dict(scales=1, positional="none")),
    ("axial_S1_nopos_1head", dict(scales=1, heads=1, positional="none"))])
def test_names_and_shapes_of_the_variants(variant, options):
    found = weights.to_torch(models.create("cfaan", num_classes=10, **options))
    assert {name: list(array.shape) for name, array in found.items()} == VARIANTS[variant]


@pytest.fixture
def model() -> models.VideoReID:
    return small_network("cfaan", **TINY)


def test_everything_that_does_not_fit_is_listed_and_nothing_is_changed(model):
    before, given = weights.to_torch(model), drawn(model)
    del given["base.bn1.running_mean"], given["base.layer2.1.axial_gran.0.relative"]
    given["fc.extra"] = np.zeros(3, np.float32)
    given["base.conv1.weight"] = given["base.conv1.weight"][:4]
    with pytest.raises(InputError) as caught:
        weights.load_torch(model, given)
    for part in ("missing: base.bn1.running_mean, base.layer2.1.axial_gran.0.relative;", "unexpected: fc.extra;",
                 "base.conv1.weight (4, 3, 1, 7, 7) instead of (8, 3, 1, 7, 7)", "skip"):
        assert part in str(caught.value)
    assert_same(weights.to_torch(model), before)


def test_an_error_shows_five_names_and_the_count_in_two_lines(model):
    with pytest.raises(InputError) as caught:
        weights.load_torch(model, {})
    first, second = str(caught.value).splitlines()
    names = first.partition("missing: ")[2].split(", ")
    assert len(names) == 6 and re.fullmatch(r"\.\.\. \(\d{2,} in all\)", names[-1]) and "skip" in second


@pytest.mark.parametrize("name", ["base.layer2.1.axial_gran.0.flatten_index", "bottleneck.bias"])
def test_constants_of_another_network_are_refused(model, name):
    given = drawn(model)
    given[name] = given[name] + 1
    check_refused(f"{name} differs", weights.load_torch, model, given)


def test_constants_may_be_missing(model):
    given = {name: array for name, array in drawn(model).items()
             if not name.endswith((".flatten_index", ".num_batches_tracked", "bottleneck.bias"))}
    weights.load_torch(model, given)
    np.testing.assert_array_equal(weights.to_torch(model)["base.bn1.weight"], given["base.bn1.weight"])


@pytest.mark.parametrize("wrapped", [
    lambda given: {"model": given, "optimizer": {"state": {}}},
    lambda given: {f"module.{name}": array for name, array in given.items()},
    lambda given: {"model": {f"module.{name}": array for name, array in given.items()}},
], ids=["checkpoint", "data-parallel", "both"])
def test_wrapped_weights_are_recognised(model, wrapped):
    expected = drawn(model)
    weights.load_torch(model, wrapped(expected))
    assert_same(weights.to_torch(model), expected)


def test_skipped_names_keep_their_values(model):
    before, given = weights.to_torch(model), drawn(model)
    del given["classifier.weight"]
    given["base.conv1.weight"] = np.zeros((1, 1))
    weights.load_torch(model, given, skip=("classifier.*", "base.conv1.weight"))
    after = weights.to_torch(model)
    for name, source in {"classifier.weight": before, "base.conv1.weight": before, "base.bn1.bias": given}.items():
        np.testing.assert_array_equal(after[name], source[name])


def backbone(plain: models.VideoReID) -> dict[str, np.ndarray]:
    """Other weights for a ResNet in torchvision's layout: 2-D convolutions, bare names."""
    given = {name.removeprefix("base."): array for name, array in drawn(plain).items() if name.startswith("base.")}
    assert given["conv1.weight"].ndim == 4
    return given


def imagenet() -> dict[str, np.ndarray]:
    """With a classifier of its own."""
    classifier = {"fc.weight": np.zeros((1000, 256), np.float32), "fc.bias": np.zeros(1000, np.float32)}
    return backbone(small_network("c2d")) | classifier


@pytest.mark.parametrize("more", [{}, {"bottleneck.weight": np.zeros(256, np.float32)}], ids=["bare", "another head"])
@pytest.mark.parametrize("name", ["c2d", "nonlocal", "cfaan", "ide", "p3d", "ap3d", "ap3d_nl"])
def test_an_imagenet_network_fills_the_backbone_alone(name, more):
    model = small_network(name, **(TINY if name == "cfaan" else {}))
    before, given = weights.to_torch(model), imagenet() | more
    weights.load_torch(model, given)
    after = weights.to_torch(model)
    filled = {key: np.squeeze(array) for key, array in after.items() if not np.array_equal(array, before[key])}
    assert len(filled) == len([key for key in given if not key.startswith(("fc.", "bottleneck."))])
    for key, array in filled.items():
        plain = key.removeprefix(model.layout.prefix).replace(".spatial_conv3d", "")
        np.testing.assert_array_equal(array, np.squeeze(given[plain]), err_msg=key)


@pytest.mark.parametrize("name", ["tclnet", "ftwft"])
@pytest.mark.parametrize("head", ["own", "cfaan"])
def test_an_imagenet_network_fills_backbones_of_other_names(name, head):
    plain = small_network("c2d", depths=(1, 1, 1, 2))
    given = backbone(plain)
    weights.load_torch(plain, given)
    model = models.create(name, num_classes=2, width=8, depths=(1, 1, 1, 2), head=head)
    before = weights.to_torch(model)
    weights.load_torch(model, given)
    expected, found = plain.backbone.stages, list(model.backbone.stages)
    pairs = [(found[0][0], expected[0][0]), (found[2][0], expected[2][0])]
    last = model.backbone.last_stage
    pairs += ([(last.shared[0], expected[3][0]), (last.learners[0], expected[3][1]), (last.learners[1], expected[3][1])]
              if name == "tclnet" else [(found[3][1], expected[3][1])])
    for one, other in pairs:
        for ours, theirs in zip(*(jax.tree.leaves(nnx.state(each)) for each in (one, other)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    after = weights.to_torch(model)
    kept = next(key for key in after if key.endswith(("TSE_Module.conv_reduce.weight", "attention_conv.weight")))
    np.testing.assert_array_equal(after[kept], before[kept])


@pytest.mark.parametrize("name", ["p3d", "ap3d_nl", "tclnet", "ftwft"])
def test_the_head_of_cfaan_goes_there_and_back_on_other_backbones(name):
    state = check_round_trip(small_network(name, num_classes=3, clip_length=2, image_size=(32, 32), head="cfaan"))
    assert state["classifier.weight"].shape == (3, 256) and "bottleneck.running_mean" in state


def test_an_imagenet_network_of_another_depth_is_refused():
    given = imagenet()
    given["layer3.1.conv1.weight"] = given["layer3.0.conv1.weight"]
    check_refused(r"unexpected: base.layer3.1.conv1.weight", weights.load_torch, small_network("c2d"), given)


def test_a_counter_of_one_axis_is_taken_and_one_of_several_is_refused():
    model, other = (small_network("c2d", seed=seed) for seed in (0, 1))
    given = weights.to_torch(model)
    weights.load_torch(other, {name: array.reshape(1) if array.ndim == 0 else array for name, array in given.items()})
    before = weights.to_torch(other)
    bad = weights.to_torch(model) | {"base.bn1.num_batches_tracked": np.arange(2)}
    check_refused(r"base.bn1.num_batches_tracked is int64 \[2\] in place of one number", weights.load_torch, other, bad)
    assert_same(weights.to_torch(other), before)


@pytest.mark.parametrize("name", ["c2d", "tclnet", "ftwft"])
def test_what_is_skipped_as_classifier_is_the_classifier_alone(name):
    model, other = (small_network(name, num_classes=classes, clip_length=4, image_size=(64, 32), seed=classes)
                    for classes in (3, 5))
    weights.load_torch(other, weights.to_torch(model), skip=[weights.classifier_of(other)])
    left, given = weights.to_torch(other), weights.to_torch(model)
    changed = [key for key, array in left.items() if array.shape != given[key].shape or (array != given[key]).any()]
    assert changed and all(key.rpartition(".")[0] in ("classifier", "classifier.0", "classifier.1",
                                                      "classifier.classifier") for key in changed)
