"""What a run was started with, one line a start: command, hardware, versions."""

import contextlib
import json
import os
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxnets.devices.hardware import cores, processor
from jaxnets.errors import UserError
from jaxnets.files.regular import open_file, parse_json, read_text

STARTS = "starts.jsonl"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(module: str, argv: Sequence[str], **more: Any) -> dict[str, Any]:
    """The command, the devices as jax sees them, the versions, and whatever is given with them."""
    import jax

    devices = jax.devices()
    on_cpu = devices[0].platform == "cpu"
    kind = f"CPU, {processor()}, {cores()} cores" if on_cpu else devices[0].device_kind
    return {
        "command": shlex.join(["python", "-m", module, *argv]),
        "date": datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
        "hardware": f"{len(devices)} x {kind}" if len(devices) > 1 else kind,
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in _PACKAGES},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **more,
    }


def record(workdir: Path, row: dict[str, Any]) -> None:
    """Adds a start to the workdir's list.

    Raises:
        UserError: it cannot be written.
    """
    path = workdir / STARTS
    try:
        with open_file(path, "a") as f:
            f.write(json.dumps(row) + "\n")
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror})") from e


def first(workdir: Path) -> dict[str, Any]:
    """The first start of a run, as long as it became; empty for one that kept no list."""
    try:
        lines = read_text(workdir / STARTS).splitlines()
    except (OSError, ValueError):
        return {}
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):  # cut short by a kill
            rows.append(parse_json(line))
    starts = [row for row in rows if isinstance(row, dict)]
    return max(starts, key=lambda start: start.get("epochs", 0), default={})
