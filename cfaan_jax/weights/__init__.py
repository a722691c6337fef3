"""Weights under the names of torch: reading files, filling a model, and going back."""

from cfaan_jax.weights.transfer import classifier_of, load_torch, to_torch

__all__ = ["classifier_of", "load_torch", "to_torch"]
