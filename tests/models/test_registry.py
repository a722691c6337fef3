"""The other systems of the paper's Tables 1 and 4 as whole networks, against their authors' code."""

import jax
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models, weights
from cfaan_jax.data.clips import test_clips
from cfaan_jax.experiment.recipes import recipe
from cfaan_jax.train.objective import objective
from tests import golden_cases
from tests.golden import weightgen
from tests.golden_cases import Case
from tests.models.test_full_models import CLASSES, check_gradients, clips
from tests.models.transplants import gradients, named, thorough_jit

pytestmark = pytest.mark.slow


def network(name: str, system: str, settings: dict, image_size: tuple[int, int] = (256, 128)) -> models.VideoReID:
    """A network filled with the weights of a case."""
    shapes = {key: (CLASSES, *shape[1:]) if "classifier" in key and key.split(".")[-2] != "bn" else shape
              for key, (shape, _) in golden_cases.torch_names(system)[name].items()}
    given = weightgen.draw_all(shapes, settings["weight_salt"])
    for key, factor in settings.get("scale", {}).items():
        given[key] = given[key] * np.float32(factor)
    model = models.create(name, num_classes=CLASSES, clip_length=settings["frames"], image_size=image_size)
    weights.load_torch(model, given)
    return model


def run(model: models.VideoReID, function, *arguments):
    """`function(model, *arguments)` on a compiled copy of the model."""
    graph, state = nnx.split(model)
    return jax.jit(lambda state, *arguments: function(nnx.merge(graph, state), *arguments))(state, *arguments)


def assert_near(found: jax.Array, expected: np.ndarray, what: str) -> None:
    """Within 1e-3, which tells every deliberate mistake that was tried from rounding."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3, err_msg=what)


@pytest.mark.parametrize("name", golden_cases.names("ap3d_models_eval"))
def test_features_of_convolutions_along_time_are_the_references(name):
    case = Case("ap3d_models_eval", name)
    model = network({"p3dc": "p3d"}.get(name, name), "ap3d", case.settings)

    def features(model, clips):
        return model.head_settings.pool(model.backbone(clips), None), model.features(clips)

    with jax.enable_x64(True):  # in float32 the largest values, near 30, round by as much as is allowed
        nnx.update(model, jax.tree.map(lambda value: value.astype(np.float64), nnx.state(model)))
        frames, feature = run(model, features, clips(case.settings["clip_seed"],
                                                     case.settings["clip_shape"]).astype(np.float64))
    assert_near(frames, case["frame_features"], "frames")
    assert_near(feature, case["feature"], "feature")


TCLNET = [name for name in golden_cases.names("tclnet_models_eval") if name != "train_step"]


@pytest.mark.parametrize("name", TCLNET)
def test_features_of_tclnet_are_the_references(name):
    case = Case("tclnet_models_eval", name)
    model = network("tclnet", "tclnet", case.settings)

    def features(model, clips):
        frames = model.head_settings.pool(model.backbone(clips), None)
        return frames.reshape(len(clips), 2, 2, -1).mean(1).reshape(len(clips), -1), model.features(clips)

    raw, feature = run(model, features, clips(case.settings["clip_seed"], case.settings["clip_shape"]))
    assert_near(raw, case["feature_raw"], "feature_raw")
    assert_near(feature, case["feature"], "feature")


@pytest.mark.parametrize("name", [name for name in TCLNET
                                  if "tracklet_seed" in Case("tclnet_models_eval", name).settings])
def test_a_tracklet_of_tclnet_is_averaged_before_its_branches_are_normalised(name):
    case = Case("tclnet_models_eval", name)
    settings = case.settings
    model = network("tclnet", "tclnet", settings)
    frames = clips(settings["tracklet_seed"], settings["tracklet_shape"])[0]
    dense = frames[test_clips(len(frames), settings["frames"], "dense")]
    means = np.mean(run(model, lambda model, clips: model.clip_features(clips), dense), axis=0, keepdims=True)
    assert_near(model.tracklet_features(means), case["tracklet_feature"], "tracklet_feature")


def test_a_training_step_of_tclnet_is_the_references():
    """By the losses of its recipe, in float64: see `test_full_models`."""
    case = Case("tclnet_models_eval", "train_step")
    settings, labels = case.settings, case["labels"]
    model = network("tclnet", "tclnet", settings)
    model.train()

    def total(model, clips):
        output = model(clips)
        loss, parts = objective(recipe("tclnet").loss, output, labels, np.zeros((len(labels), 4), bool), None)
        found = dict(loss=loss, triplet=parts["triplet"], xent=parts["id_loss"])
        for branch in range(2):
            found |= {f"score{branch}": output.logits[branch], f"feature{branch}": output.features[branch]}
        return loss, found

    with jax.enable_x64(True):
        nnx.update(model, jax.tree.map(lambda value: value.astype(np.float64), nnx.state(model)))
        frames = clips(settings["clip_seed"], settings["clip_shape"]).astype(np.float64)
        found, grads, _, statistics = gradients(model, total, (), (frames,), thorough_jit)
        for what, value in found.items():
            case.check(what, value)
        check_gradients(case, named(model, grads))
        after = named(model, statistics)
    case.check("post_running_mean_abs", [np.abs(after[key]).mean() for key in settings["post_keys"]])


@pytest.mark.parametrize("name", golden_cases.names("ftwft_models_eval"))
def test_features_of_ft_wft_are_the_references(name):
    case = Case("ftwft_models_eval", name)
    shape = case.settings["clip_shape"]
    model = network("ftwft", "ftwft", case.settings, tuple(shape[-2:]))

    def features(model, clips):
        return model.frame_weights(model.backbone(clips)), model.features(clips)

    logits, feature = run(model, features, clips(case.settings["clip_seed"], shape))
    case.check("attention_logits", logits)
    assert_near(feature, case["feature"], "feature")
