"""Deprecated: the names of `cfaan_jax.deploy.feature_extractor`, for one more release."""
def __getattr__(name: str):
    from cfaan_jax.deploy import feature_extractor
    value = getattr(feature_extractor, name)
    import warnings
    warnings.warn(f"deprecated: import {name} from cfaan_jax.deploy.feature_extractor", DeprecationWarning, 2)
    return value
