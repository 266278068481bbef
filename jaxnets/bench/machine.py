"""What the measurements were made on."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

from jaxnets.devices import cpu_flags
from jaxnets.devices.hardware import cores, processor

PACKAGES = ("jaxnets", "jax", "jaxlib", "flax", "optax", "torch")


def describe(tf32: bool | None) -> dict[str, Any]:
    """Device, versions and settings, for the head of the result.

    Args:
        tf32: whether float32 products may be computed in TF32; None on a CPU, which has none.
    """
    device = jax.local_devices()[0]
    return {
        "device": processor() if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "cpu": processor(),
        "cores": cores(),
        "load": list(os.getloadavg()),
        "cpu_flag": {"flag": cpu_flags.FLAG, "in_force": cpu_flags.in_force()},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "tf32": tf32,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def tf32_allowed() -> bool | None:
    """Whether JAX may use TF32 for float32 products; None on a CPU."""
    if jax.default_backend() == "cpu":
        return None
    return jax.config.jax_default_matmul_precision not in ("highest", "float32")


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
