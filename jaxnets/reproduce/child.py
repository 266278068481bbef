"""The process of a row's training, started and within.

Imports neither jax nor torch: the process that waits holds no device.
"""

import time
from collections.abc import Mapping, Sequence

from jaxnets.runs import children
from jaxnets.runs.children import Ended

_PATIENCE = 30.0  # seconds that a training, which keeps its time itself, may take beyond it
_TRAINING = "from jaxnets import cli; from jaxnets.reproduce import child; cli.run(child.main)"


def train(
    plan: str, row: str, seed: int, minutes: float | None, environment: Mapping[str, str]
) -> Ended:
    """`training.run` in a process of its own, with the minutes that begin now."""
    words = [plan, row, str(seed), "" if minutes is None else f"{minutes:.4f}"]
    deadline = None if minutes is None else time.monotonic() + 60 * minutes + _PATIENCE
    return children.wait(["-c", _TRAINING, *words], environment, deadline)


def main(argv: Sequence[str]) -> int:
    """What that process runs."""
    started = time.monotonic()
    plan, row, seed, minutes = argv
    children.end_with_parent()

    from jaxnets.reproduce import training

    return training.run(plan, row, int(seed), float(minutes) if minutes else None, started)
