"""Labelled images as uint8 arrays in memory: sources by name, their cache, splits, identity.

Needs numpy alone: it imports neither jax nor torch, and of this project files and errors.  Training
in both frameworks, evaluation and the reports call it.
"""

from jaxnets.data.dataset import Dataset
from jaxnets.data.sources import DATASETS, load, load_dataset
from jaxnets.data.split import split_validation

__all__ = ["DATASETS", "Dataset", "load", "load_dataset", "split_validation"]
