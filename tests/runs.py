"""Runs of the tiny recipe in processes of their own, and what must be the same in two of them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.checkpoints import store
from jaxnets.runs.log import METRICS, read_rows

ROOT = Path(__file__).parents[1]
CLOCK = {"seconds", "images_per_second"}  # differ from run to run


def arguments(workdir: Path, **config: Any) -> list[str]:
    """Those of jaxnets.train: the tiny recipe, with keys of the configuration changed."""
    keys = [f"--config.{key}={value}" for key, value in config.items()]
    return ["--config", str(ROOT / "tests" / "tiny_config.py"), "--workdir", str(workdir), *keys]


@contextlib.contextmanager
def process(module: str, args: list[str], output: Path) -> Iterator[subprocess.Popen]:
    """`python -m MODULE ARGS` while the block runs; what it prints is added to `output`."""
    with open(output, "a") as out:
        running = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def rows(workdir: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    return [
        {key: value for key, value in row.items() if key not in CLOCK}
        for row in read_rows(workdir / METRICS)
    ]


def arrays(workdir: Path, which: str) -> dict[str, np.ndarray]:
    """Every array of a checkpoint by its place in the tree: weights, statistics, optimizer."""
    tree = store.read(workdir, which)[:2]
    return {
        jax.tree_util.keystr(path): np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def assert_same_run(a: Path, b: Path) -> None:
    """Log, last and best store, bit for bit."""
    assert rows(a) == rows(b)
    for which in ("last", "best"):
        assert store.find(a, which)[1] == store.find(b, which)[1]
        ours, theirs = arrays(a, which), arrays(b, which)
        assert ours.keys() == theirs.keys()
        differ = [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()]
        assert not differ, which
