"""Scores stored features again: python -m cfaan_jax.evaluate."""

from cfaan_jax.evaluate.evaluate import main
from cfaan_jax.runtime.command import run_command

run_command(main)
