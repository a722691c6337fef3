"""A device without memory left."""

import jax
import jax.numpy as jnp
import pytest

from cfaan_jax.errors import InputError
from cfaan_jax.runtime.device_memory import explained


def test_too_little_memory_is_one_line_with_the_remedy():
    with pytest.raises(InputError) as refused, explained("a step", "set fewer"):
        jax.block_until_ready(jnp.zeros(1 << 50, jnp.uint8))
    assert str(refused.value) == "cpu has no memory for a step, which asked for 1125899906842624 bytes; set fewer"


def test_the_allocators_of_gpus_and_tpus_are_understood_and_other_errors_stay():
    for text, needed in (
            ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12.34GiB.", "12.34GiB"),
            ("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 30.13G "
             "of 15.75G hbm. Exceeded hbm capacity by 14.38G.", "30.13G")):
        with pytest.raises(InputError, match=f"asked for {needed}; set fewer"), explained("a step", "set fewer"):
            raise jax.errors.JaxRuntimeError(text)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explained("a step", "set fewer"):
        raise jax.errors.JaxRuntimeError("INTERNAL: out of luck")
