"""Video person re-identification: Re-Detect and Link, CF-AAN, and the evaluation protocols of the field."""

__all__ = ["FeatureExtractor"]


def __getattr__(name: str):
    """`FeatureExtractor` is imported when somebody asks for it, so that `import cfaan_jax` loads no JAX."""
    if name == "FeatureExtractor":
        from cfaan_jax.deploy.feature_extractor import FeatureExtractor
        return FeatureExtractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
