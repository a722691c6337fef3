"""Weights under the names of torch: reading files, filling a model, and going back."""

from cfaan_jax.weights.transfer import load_torch, to_torch

__all__ = ["load_torch", "to_torch"]
