"""The configs of MARS and IDE, shrunk by settings until two CPU cores train each network in one to four minutes.

    bash launch/quickstart.sh
    python -m cfaan_jax.main --config=configs/quickstart.py:c2d --workdir=runs/small --config.data.records=RECORDS

Variants: `ide` and those of configs/mars.py (default: `cfaan`). Figures: docs/start/quickstart.md.
"""

from ml_collections import ConfigDict

from cfaan_jax.errors import InputError
from configs import ide, mars


def get_config(variant: str = "cfaan") -> ConfigDict:
    """The config of a variant, "ide" or one of `mars.VARIANTS`."""
    if variant not in ("ide", *mars.VARIANTS):
        raise InputError(f"variant '{variant}': there are ide, {', '.join(mars.VARIANTS)}, as in "
                         "configs/quickstart.py:c2d")
    config = ide.get_config() if variant == "ide" else mars.get_config(variant)
    config.model.update(pretrained="none", width=16, depths=(1, 1, 2, 1))
    config.data.update(image_size=(96, 48), identities=4, tracklets=4, workers=2)
    if variant != "ide":
        config.data.clip_length = 4
    config.optim.update(learning_rate=1e-3, milestones=(27, 35))
    config.train.update(epochs=40, checkpoint_every=10, evaluate_every=0)
    config.eval.update(protocols=("mars", "mars_revised"))
    return config
