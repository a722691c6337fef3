"""The page of label review: python -m cfaan_jax.report.review."""

from cfaan_jax.report.label_review.review import main
from cfaan_jax.runtime.command import run_command

if __name__ == "__main__":
    run_command(main)
