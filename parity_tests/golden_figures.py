"""The golden figures: read, and the weights and images that they belong to (golden/README.md)."""

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "golden"
LABELS = np.array([0, 3, 6, 9])


def load(name: str) -> Any:
    """The content of golden/NAME.json."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in [0, 1), row-major over `shape`: splitmix64, seeded by the CRC-32 of the name.

    Source: Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators.
    """
    z = np.uint64(zlib.crc32(name.encode()) << 32) + np.arange(math.prod(shape), dtype=np.uint64)
    z += np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)) * 2.0**-53).reshape(shape)


def state_dict(entries: Iterable[tuple[str, tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    """The values of a state_dict, in PyTorch's layouts.

    Args:
        entries: each tensor's name, its shape, and the first name of a kernel that several share.
    """
    return {name: _value(first, shape) for name, shape, first in entries}


def _value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    leaf = name.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.array(7)
    u = uniform(name, shape)
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        return 0.5 + u
    if leaf == "weight":
        return (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))
    return 0.2 * (2 * u - 1)


def images() -> np.ndarray:
    """Four images (4, 3, 32, 32)."""
    return 2 * uniform("images", (4, 3, 32, 32)) - 1


def figures(name: str, value: np.ndarray) -> np.ndarray:
    """What the files keep of a large tensor in PyTorch's layout: its norm, and one projection."""
    probe = 2 * uniform(f"probe.{name}", value.shape) - 1
    return np.array([np.sqrt(np.square(value).sum()), (value * probe).sum()])


def assert_golden(
    got: Mapping[str, Any], want: Mapping[str, Any], bound: float, parts: Iterable[str]
) -> None:
    """Holds `parts` of what a network gives to a file's figures, relative to each tensor's.

    A gradient of rounding alone (of a bias in front of a BatchNorm) is held to the largest one.

    Raises:
        AssertionError: a name or a value differs; it says which, and by how much.
    """
    for part in parts:
        if not isinstance(want[part], dict):
            _close(part, np.asarray(got[part]), np.asarray(want[part]), bound)
            continue
        wanted = {name: value for name, value in want[part].items() if value is not None}
        assert got[part].keys() == wanted.keys(), sorted(got[part].keys() ^ wanted.keys())
        largest = max(value[0] for value in wanted.values())
        for name, value in wanted.items():
            floor = 1e-5 * largest if part == "gradients" and value[0] < 1e-9 * largest else 0.0
            _close(f"{part} {name}", figures(name, got[part][name]), np.array(value), bound, floor)


def _close(name: str, got: np.ndarray, want: np.ndarray, bound: float, floor: float = 0.0) -> None:
    assert got.shape == want.shape, f"{name}: {got.shape}, not {want.shape}"
    error = np.abs(got - want).max() / max(np.abs(want).max(), floor)
    assert error <= bound, f"{name}: relative error {error:.2g} > {bound}"
