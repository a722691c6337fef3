"""The other systems of the paper's Tables 1 and 4 as whole networks, against their authors' code."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from cfaan_jax import models, weights
from tests import golden_cases
from tests.golden import weightgen
from tests.golden_cases import FOLDER, Case
from tests.models.test_full_models import CLASSES, clips
from tests.models.transplants import quick_jit


def names(system: str) -> dict[str, dict[str, tuple]]:
    """{network: {torch name: (shape, type)}} as the authors' code has them."""
    listed = json.loads((FOLDER / f"state_dict_keys_{system}.json").read_text())
    return {{"p3dc": "p3d"}.get(network, network): {each["name"]: (tuple(each["shape"]), each["dtype"])
                                                     for each in entries} for network, entries in listed.items()}


def network(name: str, system: str, settings: dict, image_size: tuple[int, int] = (256, 128)) -> models.VideoReID:
    """A network filled with the weights of a case."""
    shapes = {key: (CLASSES, *shape[1:]) if "classifier" in key and key.split(".")[-2] != "bn" else shape
              for key, (shape, _) in names(system)[name].items()}
    given = weightgen.draw_all(shapes, settings["weight_salt"])
    for key, factor in settings.get("scale", {}).items():
        given[key] = given[key] * np.float32(factor)
    model = models.create(name, num_classes=CLASSES, clip_length=settings["frames"], image_size=image_size)
    weights.load_torch(model, given)
    return model


def run(model: models.VideoReID, function, *arguments):
    """`function(model, *arguments)` on a compiled copy of the model."""
    graph, state = nnx.split(model)
    return quick_jit(lambda state, *arguments: function(nnx.merge(graph, state), *arguments))(state, *arguments)


def assert_near(found: jax.Array, expected: np.ndarray, what: str) -> None:
    """Within 1e-3, which tells every deliberate mistake that was tried from rounding."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3, err_msg=what)


@pytest.mark.parametrize("name", golden_cases.names("ap3d_models_eval"))
def test_features_of_convolutions_along_time_are_the_references(name):
    case = Case("ap3d_models_eval", name)
    model = network({"p3dc": "p3d"}.get(name, name), "ap3d", case.settings)

    def features(model, clips):
        return model.settings.pool(model.backbone(clips), None), model.features(clips)

    frames, feature = run(model, features, clips(case.settings["clip_seed"], case.settings["clip_shape"]))
    assert_near(frames, case["frame_features"], "frames")
    assert_near(feature, case["feature"], "feature")
