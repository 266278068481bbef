"""What a process runs on, for the records of runs and of measurements."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxnets.devices import cpu_flags

_OF_A_RUN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_OF_A_BENCHMARK = ("jaxnets", "jax", "jaxlib", "flax", "optax", "torch", "onnxruntime")


def of_a_run() -> dict[str, Any]:
    """Devices as jax sees them, versions and commit, for a run's record."""
    devices = jax.devices()
    on_cpu = devices[0].platform == "cpu"
    kind = f"CPU, {_processor()}, {_cores()} cores" if on_cpu else devices[0].device_kind
    return {
        "hardware": f"{len(devices)} x {kind}" if len(devices) > 1 else kind,
        "versions": _versions(_OF_A_RUN),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": _commit(),
    }


def of_a_benchmark(tf32: bool | None) -> dict[str, Any]:
    """Device, load, versions and settings, for the head of its result.

    Args:
        tf32: whether float32 products may be computed in TF32; None on a CPU, which has none.
    """
    device = jax.local_devices()[0]
    return {
        "device": _processor() if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "cpu": _processor(),
        "cores": _cores(),
        "load": list(os.getloadavg()),
        "cpu_flag": {"flag": cpu_flags.FLAG, "in_force": cpu_flags.in_force()},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "tf32": tf32,
        "versions": _versions(_OF_A_BENCHMARK),
    }


def tf32_allowed() -> bool | None:
    """Whether JAX may use TF32 for float32 products; None on a CPU."""
    if jax.default_backend() == "cpu":
        return None
    return jax.config.jax_default_matmul_precision not in ("highest", "float32")


def _commit() -> str | None:
    """Of the checkout that this code lies in, "-dirty" if it was changed; None where it is none."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    asked = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        said = subprocess.run(
            [*asked, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    """Those that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def _versions(packages: Sequence[str]) -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
