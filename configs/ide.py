"""The IDE classifier that links candidates in Re-Detect and Link: a ResNet-50 on single frames, cross entropy alone.

    python -m cfaan_jax.main --config=configs/ide.py --workdir=runs/ide --config.data.records=/data/mars-raw

Train it on the data set's own raw training split, then give it to data_prep/build_tfrecords.py as
--linker=ide:runs/ide. (One trained on Market-1501 has seen 48.3 % of the MARS test identities.) Hardware and pretrained
weights as in configs/mars.py. No figure is published for it; its own retrieval figures only show that it has learnt.
"""

from ml_collections import ConfigDict

from cfaan_jax.experiment.recipes import ide_recipe


def get_config() -> ConfigDict:
    return ide_recipe()
