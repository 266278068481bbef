"""Averages of the weights over training steps: what both trainers keep, and when they take weights.

    ema    exponential: average += (1 - d) (weights - average) after every step
    swa    of the weights at the ends of some epochs, all alike (Izmailov et al. 2018)

The first weights that an average takes are copied, as in torch.optim.swa_utils.AveragedModel.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnets import checks
from jaxnets.checks import Section

KINDS = ("ema", "swa")
STATISTICS = ("recompute", "average")


class Averaging(NamedTuple):
    """The averages of a run; the counts may be arrays of a framework."""

    steps_per_epoch: int
    decay: float | None = None
    """Of the exponential average; None: there is none."""
    warmup: bool = True
    """While n weights are in it, d is at most (1 + n) / (10 + n)."""
    from_epoch: int | None = None
    """The first epoch, from 1, whose end swa takes; None: there is none."""
    every: int = 1
    """Epochs from one to the next."""
    statistics: str = "recompute"
    """BatchNorm's: "average" as the weights, or "recompute" by a pass over the training images."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those that are kept."""
        given = {"ema": self.decay, "swa": self.from_epoch}
        return tuple(kind for kind in KINDS if given[kind] is not None)

    def is_due(self, kind: str, step: Any) -> Any:
        """Whether an average takes the weights after so many steps."""
        if kind == "ema":
            return step >= 1
        epoch = step // self.steps_per_epoch
        at_end = step % self.steps_per_epoch == 0
        since = epoch - self.from_epoch
        return at_end & (since >= 0) & (since % self.every == 0)

    def share(self, kind: str, n: Any, least: Callable[[Any, Any], Any] = min) -> Any:
        """What new weights are given where n are in the average already, n > 0."""
        if kind == "swa":
            return 1 / (n + 1)
        return 1 - (least(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay)


def averaging(optim: Any, steps_per_epoch: int) -> Averaging | None:
    """What `config.optim` says of averages; None: there are none."""
    ema, swa = optim.ema, optim.swa
    found = Averaging(
        steps_per_epoch, ema.decay, ema.warmup, swa.from_epoch, swa.every, optim.average_statistics
    )
    return found if found.kinds else None


def check(config: Any) -> None:
    """Raises a UserError unless averages can be as configured, and are there to evaluate."""
    optim = config.optim
    ema, swa = Section("config.optim.ema", optim.ema), Section("config.optim.swa", optim.swa)
    if optim.ema.decay is not None:
        ema.number("decay", "(0, 1)")
    ema.flag("warmup", True)
    if optim.swa.from_epoch is not None:
        checks.whole("config.optim.swa.from_epoch", optim.swa.from_epoch, 1, config.num_epochs)
    swa.whole("every", 1)
    checks.choice("config.optim.average_statistics", optim.average_statistics, STATISTICS)
    for kind, key, example in (
        ("ema", optim.ema.decay, "ema.decay=0.999"),
        ("swa", optim.swa.from_epoch, "swa.from_epoch=1"),
    ):
        checks.require(
            config.eval_weights != kind or key is not None, "config.eval_weights", kind,
            f"only with an average to evaluate, e.g. config.optim.{example}",
        )  # fmt: skip
