"""Labelled images as uint8 arrays in memory. Importing this needs numpy alone."""

from jaxnets.data.dataset import Dataset
from jaxnets.data.sources import DATASETS, load, load_dataset
from jaxnets.data.split import split_validation

__all__ = ["DATASETS", "Dataset", "load", "load_dataset", "split_validation"]
