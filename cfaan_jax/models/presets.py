"""The networks of the paper's tables by name: what `models.create` takes, beside the sizes of clips and classes.

    from cfaan_jax import models
    from cfaan_jax.models.presets import PRESETS
    model = models.create(**PRESETS["axial_s2"], num_classes=625)
"""

_CFAAN = dict(name="cfaan", scales=4, heads=8, positional="relative", order="hwt", inter_channels=None)
_AXIAL = _CFAAN | dict(scales=1)

PRESETS: dict[str, dict] = {
    # The rows of Table 2, and two networks like them that the paper does not have.
    "c2d": dict(name="c2d"),
    "nonlocal": dict(name="nonlocal", sub_sample=False),
    "nonlocal_sub": dict(name="nonlocal", sub_sample=True),  # as usual elsewhere; not in the paper
    "axial_s1_none_1head": _AXIAL | dict(positional="none", heads=1),
    "axial_s1_none": _AXIAL | dict(positional="none"),
    "axial_s1_sinusoidal": _AXIAL | dict(positional="sinusoidal"),
    "axial_s1_relative": _AXIAL,
    "axial_s2": _CFAAN | dict(scales=2),
    "cfaan": _CFAAN,
    "cfaan_slim": _CFAAN | dict(inter_channels=128),  # a quarter of the cost; not in the paper
    # The other systems of Tables 1 and 4.
    "p3d": dict(name="p3d"),
    "ap3d": dict(name="ap3d", contrastive=True),
    "ap3d_nl": dict(name="ap3d_nl", contrastive=True),
    "tclnet": dict(name="tclnet"),
    "ftwft": dict(name="ftwft", inner_channels=256),
}
