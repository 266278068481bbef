"""Dynamic loss scaling: what keeps the gradients of a float16 computation in its range.

float16 has nothing above 65,504, and loses bits of what is below 6e-5.  The loss is multiplied by a
scale before the backward pass, and the gradients are divided by it.  Where they overflow, the step
is left out and the scale shrinks; after some steps without that it grows (Micikevicius et al. 2018,
https://arxiv.org/abs/1710.03740; `torch.amp.GradScaler`).
"""

from typing import Any, NamedTuple

from jaxnets.checks import Section

LEAST = 1e-4
"""Gradients that overflow at a lower scale are not the scale's fault: the run has diverged."""
_LARGEST = 2.0**127


class LossScaling(NamedTuple):
    """The arguments of `torch.amp.GradScaler`."""

    init_scale: float = 2.0**16
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    """So many steps in a row without an overflow let the scale grow."""


def read_loss_scaling(config: Any) -> LossScaling | None:
    """What `config.optim.loss_scale` says; None: `config.dtype` needs no scaling.

    Raises:
        UserError: a value that is not allowed, whatever the dtype.
    """
    section, default = Section("config.optim.loss_scale", config.optim.loss_scale), LossScaling()
    found = LossScaling(
        section.number("init_scale", f"[{LEAST}, {_LARGEST}]", default.init_scale),
        section.number("growth_factor", "(1, inf)", default.growth_factor),
        section.number("backoff_factor", "(0, 1)", default.backoff_factor),
        section.whole("growth_interval", 1, default=default.growth_interval),
    )
    return found if config.dtype == "float16" else None
