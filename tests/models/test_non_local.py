"""The non-local block, against the authors' code."""

import jax.numpy as jnp
import numpy as np
import pytest

from cfaan_jax.models.non_local import NonLocalBlock, NonLocalSettings
from tests import golden_cases
from tests.data_prep.checks import check_refused
from tests.golden_cases import Case
from tests.models.transplants import Transplant, check_against_reference, small_network


@pytest.mark.parametrize("name", golden_cases.names("non_local"))
def test_the_block_is_the_references(name):
    case = Case("non_local", name)
    settings = case.settings
    host = small_network("nonlocal")
    one = NonLocalBlock(settings["in_channels"], settings["inter_channels"], NonLocalSettings(settings["sub_sample"]),
                        1, np.random.default_rng(0))
    host.backbone.attention[1][0] = one
    check_against_reference(case, Transplant(host, one, "base.NL_2.0."))


def test_a_map_too_small_to_be_halved_is_refused():
    one = NonLocalBlock(4, 2, NonLocalSettings(sub_sample=True), 1, np.random.default_rng(0))
    check_refused("sub_sample=True: a map of 1x4", one, jnp.zeros((1, 2, 1, 4, 4)))
