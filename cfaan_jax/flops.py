"""What networks cost: python -m cfaan_jax.flops."""

from cfaan_jax.runtime.command import run_command
from cfaan_jax.tables.flops import main

if __name__ == "__main__":
    run_command(main)
