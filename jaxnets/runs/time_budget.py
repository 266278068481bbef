"""How long a run may take before it saves and ends: for machines that are lent in slots."""

import time


class TimeBudget:
    """`minutes` from now on; None: as long as it takes."""

    def __init__(self, minutes: float | None):
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def spent(self) -> bool:
        """Whether it is over."""
        return self._end is not None and time.monotonic() >= self._end
