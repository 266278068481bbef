"""Lists the commands: python -m jaxnets [--version]."""

from collections.abc import Sequence

import jaxnets
from jaxnets import cli

COMMANDS = {
    "train": "trains a recipe; the same command again resumes",
    "evaluate": "loss, accuracy and per-class report of a trained network",
    "predict": "classifies images without labels",
    "report": "one HTML page about one run or several",
    "results": "sums up runs, with mean and deviation over seeds",
    "reproduce": "runs what is missing of the published results, and keeps it",
    "sweep": "trains a recipe with many settings: grids, searches, ablations",
    "port": "moves weights and whole runs between JAX and PyTorch",
    "export": "writes a trained network for onnxruntime, jax.export or torch.export",
    "parity": "compares a network of each framework, layer by layer or step by step",
    "bench": "speed of training, evaluation and latency, beside PyTorch",
    "models": "the networks: parameters, MACs, an audit layer by layer",
    "data": "prepares and checks data sets and folders of images",
}


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("jaxnets", _overview())
    parser.add_argument("--version", action="version", version=f"jaxnets {jaxnets.__version__}")
    parser.parse_args(argv)
    return 0


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  python -m jaxnets.{name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join([jaxnets.__doc__.splitlines()[0], "", *lines, "", "Each has its own --help."])


if __name__ == "__main__":
    cli.run(main)
