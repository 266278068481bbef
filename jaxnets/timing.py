"""Timing of kinds of work in turn, so that a load on the machine slows all of them alike."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Clock = Callable[[], float]


class Work(NamedTuple):
    """Something to repeat."""

    run: Callable[[int], object]
    """Does so many units and waits until they are done."""
    amount: float = 1
    """What a unit is worth: images, operations."""


class Rates(NamedTuple):
    """What one kind of work reached a second: a number for each repeat."""

    each: tuple[float, ...]
    units: int
    """In a repeat."""

    @property
    def median(self) -> float:
        return float(np.median(self.each))

    @property
    def spread(self) -> float:
        """The distance of the quartiles."""
        low, high = np.quantile(self.each, (0.25, 0.75))
        return float(high - low)


def alternate(
    works: Mapping[str, Work], repeats: int, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, Rates]:
    """Repeats all works in turn, `repeats` times, for about `seconds` at a time.

    Before that each one is run uncounted, to warm up and to find how many units fill the time. The
    order turns around with every repeat.

    >>> fake = iter(range(100))
    >>> alternate({"wait": Work(lambda units: None, 3)}, 2, 1, lambda: next(fake))["wait"].each
    (3.0, 3.0)
    """
    units = {name: _fitting(work, seconds, clock) for name, work in works.items()}
    each: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats):
        for name in [*works][:: -1 if repeat % 2 else 1]:
            spent = timed(functools.partial(works[name].run, units[name]), clock)
            each[name].append(units[name] * works[name].amount / spent)
    return {name: Rates(tuple(rates), units[name]) for name, rates in each.items()}


def timed(call: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """The seconds that a call takes."""
    started = clock()
    call()
    return max(clock() - started, 1e-9)


def _fitting(work: Work, seconds: float, clock: Clock) -> int:
    """How many units of a work that is warm fill `seconds`, at least one."""
    work.run(1)
    units = 1
    while True:
        spent = timed(functools.partial(work.run, units), clock)
        if spent >= seconds / 4:
            return max(1, round(units * seconds / spent))
        units *= 2
