"""The most memory that a piece of work took."""

import contextlib
from pathlib import Path

import jax

from jaxnets.bench.peak import peak_resident

DEVICE = "peak of the device's allocator"
PROCESS = "growth of the process's peak resident set"


class PeakMemory:
    """Bytes since it was made: on the device where JAX counts them, else in this process.

    The device's count begins with the process, and cannot be set back: measure once a process.
    """

    def __init__(self, device: jax.Device):
        self._device = device
        self.kind = DEVICE if device.memory_stats() else PROCESS
        # Linux: the peak starts anew. Elsewhere it stays what it is, and growth below it is lost.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._before = peak_resident()

    def read(self) -> int:
        """The peak so far."""
        if self.kind == DEVICE:
            return self._device.memory_stats()["peak_bytes_in_use"]
        return max(0, peak_resident() - self._before)
