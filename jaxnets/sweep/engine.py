"""Optuna's samplers and pruners by name, set up for trainings."""

import warnings
from typing import Any

SAMPLERS = ("tpe", "random", "qmc")
PRUNERS = ("asha", "hyperband", "median", "none")
REDUCTION = 3
"""Of so many trials that get as far as a rung, one goes on beyond it."""


def sampler(name: str) -> Any:
    """What proposes settings.

    Unseeded: workers, and one that goes on, must not propose what others have.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "random":
            return samplers.RandomSampler()
        if name == "qmc":
            return samplers.QMCSampler(scramble=True)
        return samplers.TPESampler()


def pruner(name: str, epochs: int) -> Any:
    """What gives trials up; rungs are at a ninth and a third of the epochs."""
    from optuna import pruners

    first = max(1, epochs // REDUCTION**2)
    if name == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)
    if name == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=first, max_resource=epochs, reduction_factor=REDUCTION
        )
    return pruners.MedianPruner() if name == "median" else pruners.NopPruner()
