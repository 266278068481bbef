"""The most memory that a piece of work took."""

import contextlib
import resource
import sys
from pathlib import Path

import jax

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


def peak_resident() -> int:
    """Bytes that this process held at most."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
