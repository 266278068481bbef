"""Configurations: the keys that every recipe has, the command line over them, their checks.

A recipe is a file with `get_config(preset)` that starts from `default_config()`.  On the command
line `--config x:preset --config.optim.lr=.05` names a recipe and overrides its keys.  Imports
neither jax nor torch, and of this project only errors, files and the names of the data sets: both
trainers and every command that takes a recipe call it.
"""

from jaxnets.config.keys import (
    PARAM_DTYPES,
    check_preset,
    default_config,
    default_decay,
    flatten,
    validate,
)
from jaxnets.config.networks import model_options
from jaxnets.config.recipes import read
from jaxnets.config.stored import (
    decisive_keys,
    differences,
    from_json,
    planned_over,
    to_json,
)

__all__ = [
    "PARAM_DTYPES",
    "check_preset",
    "decisive_keys",
    "default_config",
    "default_decay",
    "differences",
    "flatten",
    "from_json",
    "model_options",
    "planned_over",
    "read",
    "to_json",
    "validate",
]
