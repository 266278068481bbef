"""XLA's flags on a CPU: one that makes training two to three times faster, one for patience.

jaxlib 0.10 sends convolutions to YNNPACK, which is slower here than XLA's own path: a step of the
full SE-ResNet took 13.6 s with it and 4.9 s without (2 cores, batch 128, float32).  The flag is
experimental, so it is set only for the versions it was measured on, only in a process that is ours
(`runtime.setup`), and never where the user has set XLA_FLAGS.  It names CPU code alone: a GPU run
is not touched.

Under it a maximum or minimum of large arrays turns NaN into a number; without it those of windows
and whole axes do.  What jaxnets computes is written so that it does not: see `jaxnets.extrema`.

A CPU that pretends to be several devices has a thread for each.  They wait for each other in every
step, and where all cores are busy XLA takes a late one for a dead one after 40 s and aborts.
"""

import os
import sys
from importlib import metadata

FLAG = "--xla_cpu_experimental_ynn_fusion_type=dot,eltwise,reduce"
PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds"
PATIENCE_SECONDS = 600
MEASURED = ("0.10.2",)

_SIMULATED = "--xla_force_host_platform_device_count"


def apply() -> bool:
    """Sets what is known to help; True where the fast flag is in force.

    To the XLA_FLAGS of the user only patience is added, and only for simulated devices.
    """
    if not _started() and _known():
        given = os.environ.get("XLA_FLAGS")
        if given is None:
            os.environ["XLA_FLAGS"] = FLAG
        elif _SIMULATED in given and PATIENCE not in given:
            os.environ["XLA_FLAGS"] = f"{given} {PATIENCE}={PATIENCE_SECONDS}"
    return in_force()


def in_force() -> bool:
    """Whether the flag is among XLA_FLAGS, by `apply` or by the user."""
    return FLAG in os.environ.get("XLA_FLAGS", "").split()


def _known() -> bool:
    """Whether the flags were tried with this jaxlib: one that it does not know ends the process."""
    try:
        return metadata.version("jaxlib") in MEASURED
    except metadata.PackageNotFoundError:
        return False


def _started() -> bool:
    """Whether jax has looked for devices in this process: it reads XLA_FLAGS then."""
    if "jax" not in sys.modules:
        return False
    from jax._src import xla_bridge  # the question has no public name

    return xla_bridge.backends_are_initialized()
