"""Deletion of a person: python -m cfaan_jax.forget."""

from cfaan_jax.privacy.forget import main
from cfaan_jax.runtime.command import run_command

if __name__ == "__main__":
    run_command(main)
