"""A TensorFlow SavedModel of an export: python -m cfaan_jax.saved_model."""

from cfaan_jax.deploy.saved_model import main
from cfaan_jax.runtime.command import run_command

if __name__ == "__main__":
    run_command(main)
