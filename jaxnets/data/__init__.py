"""Labelled images as uint8 arrays in memory. Importing this needs numpy alone."""

from jaxnets.data.dataset import Dataset
from jaxnets.data.sources import DATASETS, load_dataset

__all__ = ["DATASETS", "Dataset", "load_dataset"]
