"""The configs of MARS and IDE, shrunk until two CPU cores train each network in one to four minutes.

    bash launch/quickstart.sh
    python -m cfaan_jax.main --config=configs/quickstart.py:c2d --workdir=runs/small --config.data.records=RECORDS

Variants: ide, and those of configs/mars.py (default: cfaan). Results: docs/start/quickstart.md.
"""

from ml_collections import ConfigDict

from cfaan_jax.experiment.recipes import ide_recipe, recipe


def get_config(variant: str = "cfaan") -> ConfigDict:
    config = ide_recipe() if variant == "ide" else recipe(variant)
    config.model.update(pretrained="none", width=16, depths=(1, 1, 2, 1))
    config.data.update(image_size=(96, 48), clip_length=1 if variant == "ide" else 4, identities=4, workers=2)
    config.optim.update(learning_rate=1e-3, milestones=(27, 35))
    config.train.update(epochs=40, checkpoint_every=10, evaluate_every=0)
    config.eval.protocols = ("mars", "mars_revised")
    return config
