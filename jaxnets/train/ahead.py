"""How far a loop runs ahead of the devices."""

import time
from collections import deque
from typing import Any

import jax


class Ahead:
    """Bounds the steps that the devices have been given and have not done yet.

    They cannot be taken back: whoever asks a loop to stop waits for them.  On a CPU there are two
    calls at most, and on accelerators, which must never wait for Python, what they do in `SECONDS`,
    and at least two calls.  Nothing is moved to the host for it.
    """

    SECONDS = 0.5

    def __init__(self, platform: str):
        """`platform`: of the devices, as jax calls it."""
        self._by_time = platform != "cpu"
        self._sent: deque[tuple[int, Any]] = deque()
        self._outstanding = 0
        self._before = 0.0  # when the last call that was waited for was done
        self._rate = 0.0  # steps a second
        self._largest = 1

    @property
    def steps(self) -> int:
        """How many steps one call may do where it may do many; grows from 1."""
        return max(1, min(int(self._rate * self.SECONDS), 2 * self._largest))

    def send(self, steps: int, result: Any) -> list[Any]:
        """Notes a call of so many steps, and its result: arrays that no later call takes.

        Waits where that is too much ahead; returns the results that it has waited for.
        """
        if not self._sent:
            self._before = time.perf_counter()
        self._sent.append((steps, result))
        self._outstanding += steps
        self._largest = max(self._largest, steps)
        done = []
        while len(self._sent) > 1 and self._outstanding > self._allowed:
            done.append(self._wait())
        return done

    def rest(self) -> list[Any]:
        """Waits for all calls; returns the results that `send` has not."""
        return [self._wait() for _ in range(len(self._sent))]

    @property
    def _allowed(self) -> float:
        return self._rate * self.SECONDS if self._by_time else 0

    def _wait(self) -> Any:
        steps, result = self._sent.popleft()
        self._outstanding -= steps
        jax.block_until_ready(result)
        now = time.perf_counter()
        self._rate = steps / max(now - self._before, 1e-6)
        self._before = now
        return result
