def __getattr__(name: str):
    """The names of `cfaan_jax.deploy.feature_extractor`, for one more release."""
    from cfaan_jax.deploy import feature_extractor
    value = getattr(feature_extractor, name)
    import warnings
    warnings.warn(f"import {name} from cfaan_jax.deploy.feature_extractor", DeprecationWarning, stacklevel=2)
    return value
