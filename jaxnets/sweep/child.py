"""The process of one run of a trial: an ordinary training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxnets.runs import children
from jaxnets.runs.children import Ended

_TRAINING = "from jaxnets import cli; from jaxnets.sweep import child; cli.run(child.main)"


def train(
    args: Sequence[str], environment: Mapping[str, str], output: Path, ends: Callable[[], bool]
) -> Ended:
    """`python -m jaxnets.train ARGS` in a process of its own; see `children.wait`."""
    return children.wait(["-c", _TRAINING, *args], environment, ends=ends, output=output)


def main(argv: Sequence[str]) -> int:
    """What that process runs."""
    children.end_with_parent()

    from jaxnets.train.__main__ import main as train

    return train(argv)
