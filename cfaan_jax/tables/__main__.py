"""The paper's tables: python -m cfaan_jax.tables."""

from cfaan_jax.runtime.command import run_command
from cfaan_jax.tables.tables import main

run_command(main)
