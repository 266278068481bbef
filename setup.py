"""The packages; all else about the project stands in pyproject.toml."""

from setuptools import find_packages, setup

# Folders of the repository that installed commands find by name.
FOLDERS = {
    "jaxnets.recipes": "configs",
    "jaxnets.recipes.ablations": "configs/ablations",
    "jaxnets.recipes.spaces": "configs/spaces",
    "jaxnets.pretrained.files": "weights",
}

setup(
    packages=[*find_packages(include=["jaxnets*", "torch_ref*"]), *FOLDERS],
    package_dir=FOLDERS,
    package_data={
        "jaxnets.pretrained.files": ["index.json", "*.safetensors"],
        "jaxnets.export.page": ["*.css", "*.html", "*.js"],
        "jaxnets.report": ["page.css"],
    },
)
