"""How each network is trained and tested: CF-AAN's recipe, and what the other systems do differently by themselves.

The other systems follow their released code (guxinqian/AP3D, blue-blue272/VideoReID-TCLNet, ppriyank/Video-Person-Re-
ID-Fantastic-Techniques-and-Where-to-Find-Them) with the exceptions in docs/paper/tables.md, P3D-C that of AP3D.
"""

from ml_collections import ConfigDict, config_dict

from cfaan_jax.errors import InputError, shortened
from cfaan_jax.experiment.fields import default_config
from cfaan_jax.models.presets import PRESETS

_AP3D = dict(
    data=dict(clip_length=4, sampling="strided", epoch_of="tracklets"),
    augment=dict(erasing=0.0),
    loss=dict(margin=0.3, triplet_distance="cosine"),
    optim=dict(learning_rate=3e-4, weight_decay=5e-4, milestones=(60, 120, 180)),
    train=dict(epochs=240, evaluate_clips="test_0"),
    eval=dict(clips="dense_cut", protocols=("mars_with_queries", "mars", "mars_matlab", "cfaan_released",
                                            "mars_revised")),
)

RECIPES = {
    "p3d": _AP3D,
    "ap3d": _AP3D,
    "ap3d_nl": _AP3D,
    "tclnet": _AP3D | dict(
        loss=dict(margin=0.4, triplet_distance="cosine"),  # of each branch of the head
        optim=dict(learning_rate=3e-4, weight_decay=5e-4, milestones=(40, 80, 120)),
        train=dict(epochs=150, evaluate_clips="test_0"),
        eval=dict(_AP3D["eval"], clips="dense"),
    ),
    # The released configuration 59 for MARS, with centres and attention loss. It gives the triplet loss no weight.
    "ftwft": dict(
        data=dict(clip_length=4, image_size=(224, 112), sampling="consecutive"),
        loss=dict(triplet_weight=0.0, margin=4.4132437486402204e-05, triplet_distance="cosine", smoothing=0.1,
                  centre_weight=5e-4, osm_caa_weight=1.0, osm_caa_margin=2.8436551583293728,
                  osm_caa_negative_share=0.5873389293193368, osm_caa_sigma=0.9047814732165316, attention_weight=1.0),
        optim=dict(learning_rate=3.5e-4, weight_decay=5e-4, milestones=(40, 70), gamma=0.3282654557691594,
                   warmup_epochs=10),
        train=dict(epochs=400, evaluate_clips="dense"),
        eval=dict(clips="dense", distance="euclidean"),
    ),
}
_CFAAN_RECIPE = "_cfaan_recipe"
VARIANTS = (*PRESETS, *(name + _CFAAN_RECIPE for name in RECIPES))


def preset_of(variant: str) -> str:
    """The entry of `PRESETS` that a variant trains, in whichever recipe."""
    return variant.removesuffix(_CFAAN_RECIPE)


def network_of(variant: str) -> dict:
    """What `models.create` takes for a variant: its preset, and whose head."""
    return PRESETS[preset_of(variant)] | dict(head="own" if variant in PRESETS else "cfaan")


def recipe(variant: str = "cfaan") -> ConfigDict:
    """The config that trains a network on MARS; InputError for a name that is not one of `VARIANTS`.

    Those of `PRESETS` are trained by their own recipe where they have one; "<name>_cfaan_recipe" is another system with
    the head, losses, sampling, schedule and test of CF-AAN.
    """
    if variant not in VARIANTS:
        raise InputError(f"variant '{variant}': choose one of {shortened(VARIANTS)}, as in --config=mars:c2d")
    config = default_config()
    config.model.update({option: config_dict.placeholder(int) if value is None else value
                         for option, value in network_of(variant).items()})
    for section, fields in RECIPES.get(variant, {}).items():
        config[section].update(fields)
    return config


def ide_recipe() -> ConfigDict:
    """The config that trains the IDE classifier of Re-Detect and Link: single frames, cross entropy alone.

    The network is that of Zheng et al., "MARS: A Video Benchmark for Large-Scale Person Re-identification", ECCV 2016.
    The schedule is ours, since the paper gives none.
    """
    config = default_config()
    config.model.name = "ide"
    config.data.clip_length = 1
    config.loss.triplet_weight = 0.0
    config.optim.milestones = (50, 100)
    config.train.update(epochs=120, evaluate_every=0)
    config.eval.clips = "test"
    return config
