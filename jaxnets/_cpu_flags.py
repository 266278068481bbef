"""The XLA flag that makes training on a CPU two to three times faster.

jaxlib 0.10 sends convolutions to YNNPACK, which is slower here than XLA's own path: a step of the
full SE-ResNet took 13.6 s with it and 4.9 s without (2 cores, batch 128, float32).  The flag is
experimental, so it is set only for the versions it was measured on, only before jax is imported,
and never where the user has set XLA_FLAGS.  It names CPU code alone: a GPU run is not touched.
"""

import os
import sys
from importlib import metadata

FLAG = "--xla_cpu_experimental_ynn_fusion_type=dot,eltwise,reduce"
MEASURED = ("0.10.2",)


def apply() -> bool:
    """Sets the flag where it is known to help; True where it is in force."""
    if in_force():
        return True
    if "XLA_FLAGS" in os.environ or "jax" in sys.modules:
        return False
    try:
        version = metadata.version("jaxlib")
    except metadata.PackageNotFoundError:
        return False
    if version not in MEASURED:
        return False
    os.environ["XLA_FLAGS"] = FLAG
    return True


def in_force() -> bool:
    """Whether the flag is among XLA_FLAGS, by `apply` or by the user."""
    return FLAG in os.environ.get("XLA_FLAGS", "").split()
