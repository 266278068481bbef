"""The most memory that this process held; without jax, whose own memory would count."""

import contextlib
import resource
import sys
from pathlib import Path


def peak_resident() -> int:
    """Bytes that this process held at most."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
