"""Optimizers and learning rates with PyTorch's semantics, as optax transformations.

Imports errors, options from config and the maxima that keep NaN; training calls it, and port for
the optimizers' states.

>>> optimizer = make_optimizer(
...     config.optim, config.schedule, steps_per_epoch=391, num_epochs=200
... )  # doctest: +SKIP
>>> opt_state = optimizer.tx.init(params)  # doctest: +SKIP
"""

from jaxnets.optim.averaging import evaluated
from jaxnets.optim.build import Optimizer, make_optimizer
from jaxnets.optim.transforms import advance, slow_weights

__all__ = ["Optimizer", "advance", "evaluated", "make_optimizer", "slow_weights"]
