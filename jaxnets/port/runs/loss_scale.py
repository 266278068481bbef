"""The state of dynamic loss scaling between jaxnets.train and torch.amp.GradScaler.

LossScaleState.scale            <->  scale
LossScaleState.growth_tracker   <->  _growth_tracker
LossScaleState.overflowed       <->  the steps done less those of the optimizer
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnets.config.loss_scale import LossScaling
from jaxnets.errors import UserError
from jaxnets.optim.loss_scale import LossScaleState


class LossScale(NamedTuple):
    """What a step changes of it."""

    scale: float
    growth_tracker: int
    overflowed: int
    """Steps left out, of all."""


def from_jax(tree: Any) -> LossScale | None:
    """Of a checkpoint of jaxnets.train; None: its optimizer knows no scale."""
    if not isinstance(tree, Mapping) or "growth_tracker" not in tree:
        return None
    return LossScale(
        float(tree["scale"]), int(tree["growth_tracker"]), int(tree.get("overflowed", 0))
    )


def to_jax(given: LossScale | None, inner: Any) -> Any:
    """The optimizer's state with the scale around it."""
    if given is None:
        return inner
    tracker, overflowed = np.int32(given.growth_tracker), np.int32(given.overflowed)
    return LossScaleState(np.float32(given.scale), tracker, overflowed, inner)


def from_torch(found: Any, overflowed: int) -> LossScale | None:
    """Of the state_dict of a GradScaler; None: there is none, or it is not enabled.

    Raises:
        UserError: it is another thing.
    """
    if not found:
        return None
    try:
        return LossScale(float(found["scale"]), int(found["_growth_tracker"]), overflowed)
    except (LookupError, TypeError, ValueError) as e:
        raise UserError("its scaler is not a state_dict of torch.amp.GradScaler") from e


def to_torch(given: LossScale, options: LossScaling) -> dict[str, Any]:
    """The state_dict of a GradScaler."""
    return {
        "scale": given.scale,
        "growth_factor": options.growth_factor,
        "backoff_factor": options.backoff_factor,
        "growth_interval": options.growth_interval,
        "_growth_tracker": given.growth_tracker,
    }


def check(given: LossScale | None, options: LossScaling | None, dtype: str) -> None:
    """Raises a UserError unless it is one of the configuration."""
    if (given is None) != (options is None):
        has = "no" if given is None else "a"
        raise UserError(f"it has {has} loss scale, but its configuration is config.dtype={dtype}")
    if given is None:
        return
    fits = math.isfinite(given.scale) and given.scale > 0 and given.overflowed >= 0
    if not fits or not 0 <= given.growth_tracker < options.growth_interval:
        raise UserError(f"its loss scale cannot be: {', '.join(map(str, given))}")
