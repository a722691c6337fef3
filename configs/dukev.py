"""CF-AAN and its baseline on DukeMTMC-VideoReID: the recipe of configs/mars.py with that data set's protocol.

    python -m cfaan_jax.main --config=configs/dukev.py --workdir=runs/dukev --config.data.records=/data/dukev-dl

Variants, hardware and pretrained weights as in configs/mars.py. Published figures: Table 3 of the paper. This recipe
has not been run to its end here. Duke University has withdrawn DukeMTMC; see docs/appendix/threats.md.
"""

from ml_collections import ConfigDict

from cfaan_jax.experiment.recipes import recipe


def get_config(variant: str = "cfaan") -> ConfigDict:
    config = recipe(variant)
    config.eval.protocols = ("dukev",)
    return config
