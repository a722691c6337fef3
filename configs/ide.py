"""The IDE classifier that links candidates in Re-Detect and Link: a ResNet-50 on single frames, cross entropy alone.

    python -m cfaan_jax.main --config=configs/ide.py --workdir=runs/ide --config.data.records=/data/mars-raw

Train it on the data set's own raw training split, then give it to data_prep/build_tfrecords.py as
--linker=ide:runs/ide. (One trained on Market-1501 has seen 48.3 % of the MARS test identities.) Hardware and pretrained
weights as in configs/mars.py. No figure is published for it; its own retrieval figures, from one frame a tracklet, are
only a sign that it has learnt something.

The network is that of Zheng et al., "MARS: A Video Benchmark for Large-Scale Person Re-identification", ECCV 2016; the
schedule is ours, since the paper gives none: 120 epochs of 8 identities x 4 tracklets, one frame of each.
"""

from ml_collections import ConfigDict

from configs import mars


def get_config() -> ConfigDict:
    """The config of the classifier."""
    config = mars.get_config("c2d")
    config.model.name = "ide"
    config.data.clip_length = 1
    config.loss.triplet_weight = 0.0
    config.optim.milestones = (50, 100)
    config.train.epochs = 120
    config.train.evaluate_every = 0
    config.eval.clips = "test"
    return config
