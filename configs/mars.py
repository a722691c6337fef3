"""CF-AAN and its baseline on MARS: the paper's recipe (section 4.2), as its released code runs it.

    python -m cfaan_jax.main --config=configs/mars.py --workdir=runs/mars --config.data.records=/data/mars-dl
    python -m cfaan_jax.main --config=configs/mars.py:c2d --workdir=runs/mars-c2d --config.data.records=/data/mars-dl

Variants:

    c2d                  the baseline: ResNet-50, frames averaged (no ReLU in the stem, as with nonlocal)
    nonlocal             non-local blocks; nonlocal_sub: with sub-sampled keys and values (not in the paper)
    axial_s1_none        axial attention at one scale, 8 heads, no positions; axial_s1_none_1head: one head
    axial_s1_sinusoidal  sinusoidal positions; axial_s1_relative: relative ones of queries, keys and values
    axial_s2             the last one coarse to fine, two scales
    cfaan                four scales: the published network (default)
    cfaan_slim           the same with 128 channels inside its blocks (not in the paper)
    p3d, ap3d, ap3d_nl, tclnet, ftwft
                         other systems, with their own head, losses, sampling, schedule and test
    p3d_cfaan_recipe ... the same networks in CF-AAN's recipe

Hardware: one GPU or TPU, or several; a CPU takes configs/quickstart.py. The authors trained on 2 GPUs, each normalising
its own half of the batch: --config.model.bn_groups=2.

Published for CF-AAN on MARS aligned by Re-Detect and Link: 86.5 % mAP, 91.3 % rank-1 (abstract; the epoch with the best
test mAP). This recipe has not been run to its end here.

Training starts from torchvision's ImageNet ResNet-50: put
https://download.pytorch.org/models/resnet50-0676ba61.pth into weights/, or name a file by
--config.model.pretrained=PATH; none: random weights.
"""

from ml_collections import ConfigDict

from cfaan_jax.experiment.recipes import recipe


def get_config(variant: str = "cfaan") -> ConfigDict:
    return recipe(variant)
