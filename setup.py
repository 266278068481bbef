"""The packages; all else about the project stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxnets*", "torch_ref*"]), "jaxnets.recipes"],
    package_dir={"jaxnets.recipes": "configs"},  # so that installed recipes are found by name
)
