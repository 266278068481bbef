"""The networks that a command names: of runs by --workdir, and of weights by --weights."""

import argparse

from jaxnets.devices import runtime
from jaxnets.errors import UserError
from jaxnets.inference.network import Member, check_together, load_members, of_weights
from jaxnets.port.weights import read_weights
from jaxnets.runs.workdir import read_config


def load_networks(args: argparse.Namespace) -> list[Member]:
    """Sets jax up for the networks, the runs first, and loads them.

    Args:
        args: with `workdir`, `weights` and `checkpoint`, which `cli.add_networks` adds.

    Raises:
        UserError: a run or weights that cannot be loaded, or networks that do not go together.
    """
    for i, source in enumerate(args.weights):
        if source in args.weights[:i]:
            raise UserError(f"--weights {source}: the same twice is no ensemble; leave it out")
    dtypes = {read_config(workdir).dtype for workdir in args.workdir}
    runtime.setup("float64" if "float64" in dtypes else "float32")
    weights = [read_weights(source) for source in args.weights]
    if "float64" in {found.config.dtype for found in weights}:
        runtime.setup("float64")
    members = load_members(args.workdir, args.checkpoint)
    members += [of_weights(found) for found in weights]
    check_together(members)
    return members
