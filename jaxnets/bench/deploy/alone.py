"""What a process does that opens one file, answers one batch and says how much memory it took."""

from pathlib import Path

import numpy as np

from jaxnets.bench.deploy.runtimes import RUNTIMES, pin
from jaxnets.bench.peak import peak_resident


def main(runtime: str, file: str, threads: str, shape: str, dtype: str) -> None:
    """Prints bytes."""
    pin(int(threads))
    call = RUNTIMES[runtime].load(Path(file), int(threads))
    call(np.zeros([int(size) for size in shape.split(",")], dtype))
    print(peak_resident())
