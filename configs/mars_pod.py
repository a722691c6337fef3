"""MARS with a batch of 256 clips, for more than 32 accelerators. Not validated: nobody has trained on MARS with it yet.

    python -m cfaan_jax.main --config=configs/mars_pod.py --workdir=FOLDER --config.data.records=FOLDER

Variants: those of configs/mars.py, whose batch of 32 clips occupies at most 32 devices. Several processes:
docs/scale/devices.md. What differs, with a batch 8 times as large:

- The learning rate is sqrt(8) times as high, the rule for Adam (Malladi et al., "On the SDEs and Scaling Rules for
  Adaptive Gradient Algorithms", NeurIPS 2022; its rule for the decay rates of the moments is not followed).
- It rises from the published rate in the first 5 epochs (Goyal et al., "Accurate, Large Minibatch SGD: Training
  ImageNet in 1 Hour", 2017, section 2.2).
- Batch normalisation takes its statistics over 32 clips, as published. The 220 epochs have 9 steps each, not 78.
"""

import math

from ml_collections import ConfigDict

from cfaan_jax.experiment.recipes import recipe

_TIMES = 8  # as many clips as in the published recipe


def get_config(variant: str = "cfaan") -> ConfigDict:
    config = recipe(variant)
    config.data.identities *= _TIMES
    config.model.bn_groups *= _TIMES
    config.optim.learning_rate *= math.sqrt(_TIMES)
    config.optim.update(warmup_epochs=max(5, config.optim.warmup_epochs), warmup_factor=1 / math.sqrt(_TIMES))
    config.eval.batch *= _TIMES
    return config
