"""Says which packages the wheel holds; everything else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["cfaan_jax*", "data_prep*"]), "cfaan_jax.configs"],
    package_dir={"cfaan_jax.configs": "configs"},  # there is no package of the general name "configs" in site-packages
)
