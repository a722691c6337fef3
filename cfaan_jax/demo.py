"""The search page of a demonstration: python -m cfaan_jax.demo."""

from cfaan_jax.deploy.demo import main
from cfaan_jax.runtime.command import run_command

if __name__ == "__main__":
    run_command(main)
