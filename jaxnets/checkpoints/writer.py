"""Checkpoints written while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxnets.checkpoints.store import Checkpoints
from jaxnets.devices import distributed


class Saver:
    """Writes the checkpoints of a run in a thread of its own, in the order given.

    Writing one of a full-size network takes a third of a second, in which an accelerator would
    have nothing to do.  The state is copied at once: the next step may have its buffers.  After one
    that cannot be written no other is, so that no last one counts on a best one that is missing.

    >>> with Saver(checkpoints) as saver:  # doctest: +SKIP
    ...     saver.save_best(step, state, meta)
    ...     saver.save_last(step, state, meta)
    ...     saver.wait()
    """

    def __init__(self, checkpoints: Checkpoints):
        self._checkpoints = checkpoints
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._newest: Future | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.shutdown()  # waits; errors are for `wait`

    def save_last(self, step: int, state: Any, meta: dict) -> None:
        """One to go on from."""
        self._submit(self._checkpoints.save_last, step, state, meta)

    def save_best(self, step: int, state: Any, meta: dict) -> None:
        """One that is the best so far."""
        self._submit(self._checkpoints.save_best, step, state, meta)

    def wait(self) -> None:
        """Returns when all are written.

        Raises:
            UserError: one could not be.
        """
        if self._newest is not None:
            self._newest.result()

    def _submit(self, save: Callable, step: int, state: Any, meta: dict) -> None:
        if not distributed.is_main():
            return
        # On a CPU device_get gives views of the buffers.
        copy, before = jax.tree.map(np.array, jax.device_get(state)), self._newest

        def write() -> None:
            if before is not None:
                before.result()
            save(step, copy, meta)

        self._newest = self._thread.submit(write)
