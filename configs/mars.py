"""CF-AAN and its baseline on MARS: the paper's recipe (section 4.2), as its released code runs it.

    python -m cfaan_jax.main --config=configs/mars.py --workdir=runs/mars --config.data.records=/data/mars-dl
    python -m cfaan_jax.main --config=configs/mars.py:c2d --workdir=runs/mars-c2d --config.data.records=/data/mars-dl

Variants, one for each row of the paper's Table 2 and two more:

    c2d                  the baseline: ResNet-50, frames averaged
    nonlocal             non-local blocks
    nonlocal_sub         the same with keys and values sub-sampled, as usual elsewhere (not in the paper)
    axial_s1_none_1head  axial attention at one scale, one head, no positions
    axial_s1_none        eight heads
    axial_s1_sinusoidal  eight heads, sinusoidal positions
    axial_s1_relative    eight heads, relative positions of queries, keys and values
    axial_s2             the last one coarse to fine, two scales
    cfaan                four scales: the published network (default)
    cfaan_slim           cfaan with 128 channels inside its blocks, which cost a quarter (not in the paper)

and the other systems of its Tables 1 and 4, each with its own head, losses, sampling, schedule and test procedure (see
configs/recipes.py) and, as <name>_cfaan_recipe, within CF-AAN's, which is how these tables compare them:

    p3d                  P3D-C: convolutions along time
    ap3d                 the same over neighbours aligned by their appearance
    ap3d_nl              that with non-local blocks
    tclnet               saliency boosting and erasing over pairs of frames
    ftwft                attention over frames, centres and mined pairs

`python -m cfaan_jax.flops` prints what each costs. c2d and nonlocal have no ReLU behind the stem's normalisation, the
others have one, as released: a part of what Table 2 compares is that.

Hardware: one GPU or TPU, or several; a CPU takes configs/quickstart.py. The authors trained on 2 GPUs, each normalising
its own half of the batch, which is `--config.model.bn_groups=2`.

Published for CF-AAN on MARS aligned by Re-Detect and Link: 86.5 % mAP, 91.3 % rank-1 (abstract; the epoch with the best
test mAP). This recipe has not been run to its end here.

Training starts from torchvision's ImageNet ResNet-50: put
https://download.pytorch.org/models/resnet50-0676ba61.pth into weights/, or name a file by
`--config.model.pretrained=PATH`, which may also be a checkpoint of the released code.
`--config.model.pretrained=none` starts from random weights.
"""

from ml_collections import ConfigDict, config_dict

from cfaan_jax.errors import InputError
from configs.recipes import RECIPES

_CFAAN = dict(
    name="cfaan", scales=4, heads=8, positional="relative", order="hwt",
    inter_channels=config_dict.placeholder(int),  # channels inside a block; None: the backbone's
)
_AXIAL = _CFAAN | dict(scales=1)

# The options of each variant; those of attention are explained in cfaan_jax/models/axial.py and non_local.py.
MODELS = {
    "c2d": dict(name="c2d"),
    "nonlocal": dict(name="nonlocal", sub_sample=False),
    "nonlocal_sub": dict(name="nonlocal", sub_sample=True),
    "axial_s1_none_1head": _AXIAL | dict(positional="none", heads=1),
    "axial_s1_none": _AXIAL | dict(positional="none"),
    "axial_s1_sinusoidal": _AXIAL | dict(positional="sinusoidal"),
    "axial_s1_relative": _AXIAL,
    "axial_s2": _CFAAN | dict(scales=2),
    "cfaan": _CFAAN,
    "cfaan_slim": _CFAAN | dict(inter_channels=128),
    "p3d": dict(name="p3d"),
    "ap3d": dict(name="ap3d", contrastive=True),
    "ap3d_nl": dict(name="ap3d_nl", contrastive=True),
    "tclnet": dict(name="tclnet"),
    "ftwft": dict(name="ftwft", inner_channels=256),
}
_CFAAN_RECIPE = "_cfaan_recipe"
VARIANTS = (*MODELS, *(name + _CFAAN_RECIPE for name in RECIPES))


def network_of(variant: str) -> str:
    """The entry of `MODELS` that a variant trains, in whichever recipe."""
    return variant.removesuffix(_CFAAN_RECIPE)


def get_config(variant: str = "cfaan") -> ConfigDict:
    """The config of a variant, one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise InputError(f"variant '{variant}': there are {', '.join(VARIANTS)}, as in configs/mars.py:c2d")
    name = network_of(variant)
    config = ConfigDict()
    config.seed = 0
    config.model = ConfigDict(dict(
        pretrained="weights/resnet50-0676ba61.pth",  # "none": random weights
        width=64,  # channels of the stem; ResNet-50 has 64
        depths=(3, 4, 6, 3),  # bottlenecks of each stage
        bn_groups=1,  # into how many equal parts BatchNorm divides the batch, or each part of `train.accumulate`
        compute="float32",  # or bfloat16, with float32 parameters, statistics, softmax, pooled features and losses
        remat=False,  # compute activations again for the gradients: less memory for a third more time
        head="own" if name == variant else "cfaan",  # of the network's own publication, or that of CF-AAN
        **MODELS[name],
    ))
    config.data = ConfigDict(dict(
        records="",  # the folder that data_prep/build_tfrecords.py wrote, or its address, as in gs://bucket/records
        clip_length=6,  # T
        image_size=(256, 128),
        sampling="restricted",  # of training frames: restricted, strided, consecutive
        identities=8,  # P, in a batch
        tracklets=4,  # K, of each identity
        epoch_of="identities",  # what comes once in an epoch: identities, tracklets
        workers=8,  # how many read
        processes=True,  # whether these are processes of their own in training, as in evaluation they never are
        on_bad_record="error",  # or skip: damaged tracklets are looked for before the start, and left out
        cache=False,  # read the training split into memory before the start; threads then take it from there
    ))
    config.augment = ConfigDict(dict(
        flip=0.5,  # probability, per clip
        erasing=0.5,  # probability, per frame
        erasing_area=(0.02, 0.4),  # share of the frame
        erasing_aspect=(0.3, 1 / 0.3),  # height / width
    ))
    config.loss = ConfigDict(dict(
        triplet_weight=1.0,
        margin=config_dict.placeholder(float),  # None: soft margin
        triplet_distance="euclidean",  # or cosine
        id_weight=1.0,
        smoothing=0.0,  # of the labels
        centre_weight=0.0,
        centre_rate=0.5,  # learning rate of the centres
        osm_caa_weight=0.0,
        osm_caa_margin=1.2,
        osm_caa_negative_share=0.5,
        osm_caa_sigma=0.8,
        attention_weight=0.0,  # of the frame logits of erased frames
    ))
    config.optim = ConfigDict(dict(
        learning_rate=1e-4,
        weight_decay=5e-5,  # coupled
        milestones=(50, 100, 150, 200),  # epochs after which the rate is multiplied by gamma
        gamma=0.1,
        warmup_epochs=0,  # 0: none
        warmup_factor=0.01,  # share of the rate at which a warm-up starts
    ))
    config.train = ConfigDict(dict(
        epochs=220,
        checkpoint_every=2,  # epochs
        evaluate_every=10,  # epochs; 0: never, and there is no checkpoint "best"
        evaluate_clips="test",
        # Parts of the batch whose gradients are averaged, one part at a time. Not the same step as that of the whole
        # batch: each part is normalised by its own statistics, as with bn_groups, and finds its triplets in itself.
        accumulate=1,
        loggers=("tensorboard",),  # beside metrics.csv: tensorboard, wandb, mlflow; the last two stay on this machine
        profile=(),  # first and last step of which a trace goes to WORKDIR/profile, as in 10,12; (): none
    ))
    config.eval = ConfigDict(dict(
        clips="all_sampled",  # test, test_0, all_sampled, all_continuous, dense, dense_cut
        distance="cosine",  # or euclidean
        protocols=("mars", "mars_with_queries", "mars_matlab", "cfaan_released", "mars_revised"),
        corrections="",  # corrected labels for the revised protocols; "": the labels as they are
        max_rank=50,
        rerank=False,  # k-reciprocal re-ranking as well
        batch=32,  # clips
        weights="last",  # what --mode=evaluate scores: last, best, untrained
        report_lists=100,  # queries whose ranked lists the report shows: half of them the worst, half typical
        raw_records="",  # the data set packed with --detector=none, whose frames go beside the aligned ones; "": none
        attention_block=-1,  # the block whose attention the report shows, counted from 0; -1: the last one
    ))
    for section, fields in RECIPES.get(variant, {}).items():
        config[section].update(fields)
    return config
