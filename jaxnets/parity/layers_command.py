"""Compares a model in JAX and in PyTorch layer by layer, and names the first that differs.

The part of `python -m jaxnets.parity` with --model.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.files.atomic import check_folder
from jaxnets.files.regular import open_file

if TYPE_CHECKING:
    from jaxnets.models.torch_names import StateDict
    from jaxnets.parity.layers import Model

SUFFIXES = (".pt", ".pth", ".safetensors")


# Of the flags of `add_flags`, which the other comparison refuses.
DEFAULTS = {
    "model": None,
    "option": [],
    "num_classes": None,
    "jax": None,
    "torch": None,
    "checkpoint": "best",
    "train": False,
    "images": None,
    "torch_images": None,
    "batch_size": 4,
    "seed": 0,
}


def run(args: argparse.Namespace) -> int:
    """Runs the comparison that the flags ask for; returns its exit code."""
    if args.jax is None and args.torch is None:
        raise UserError("nothing to compare: give --jax CHECKPOINT, --torch FILE, or both")
    if args.train and args.batch_size < 2:
        raise UserError(f"--batch-size {args.batch_size}: at least 2 with --train")
    if args.torch and (args.torch.suffix not in SUFFIXES or args.torch.is_dir()):
        raise UserError(f"--torch {args.torch}: not one of {', '.join(SUFFIXES)}")
    if args.torch_images and not args.images:
        raise UserError("--torch-images: give the other side's with --images")
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise UserError("jaxnets.parity needs torch: pip install torch") from e
    folder = args.output or Path(f"runs/{args.model}_layers")
    check_folder(folder, f"--output {folder}")

    from jaxnets.devices import runtime

    runtime.setup()

    from jaxnets.config.networks import parse_options
    from jaxnets.parity import layers, layers_report
    from jaxnets.port import load

    model = layers.Model(args.model, args.num_classes, parse_options(args.model, args.option))
    in_jax = _jax_weights(model, args.jax, args.checkpoint) if args.jax else None
    in_torch = load(args.torch) if args.torch else in_jax
    images = _images(args.images) if args.images else _noise(args.batch_size, args.seed)
    torch_images = _images(args.torch_images) if args.torch_images else images
    if images.shape != torch_images.shape:
        raise UserError(
            f"--images {images.shape}, --torch-images {torch_images.shape}: not as many"
        )
    with cli.naming_batch(f"--batch-size {len(images)}" if args.images is None else "--images"):
        found = layers.compare(
            model,
            in_torch if in_jax is None else in_jax,
            in_torch,
            images,
            torch_images,
            train=args.train,
        )
    layers_report.show(found)
    print(layers_report.verdict(found))
    for path in layers_report.write(folder, model, found, args.train):
        print(f"wrote {path}")
    return 0 if found.ok else 1


def add_flags(parser: cli.Parser) -> None:
    """Adds the flags of this comparison; DEFAULTS holds their defaults."""
    add = parser.add_argument_group("layers of two checkpoints, with --model").add_argument
    add("--model", metavar="NAME", help="whose layers they are")
    add("--option", action="append", metavar="K=V", help="an option of the model")
    add("--num-classes", type=cli.whole(1), metavar="N", help="logits (default: documented)")
    add("--jax", type=Path, metavar="A", help="JAX's weights: a run's folder or a weight file")
    add("--torch", type=Path, metavar="B", help=f"PyTorch's weights: {', '.join(SUFFIXES)}")
    add("--checkpoint", metavar="best|last|STEP", help="of a run; default: best")
    add("--train", action="store_true", help="in training mode: batch statistics, the same masks")
    add("--images", type=Path, metavar="NPY", help="(N, H, W, 3) normalised (default: noise)")
    add("--torch-images", type=Path, metavar="NPY", help="PyTorch's, if prepared by themselves")
    add("--batch-size", type=cli.whole(1), metavar="N", help="images of noise (default: 4)")
    add("--seed", type=cli.whole(0), metavar="N", help="of the noise (default: 0)")


def _jax_weights(model: "Model", path: Path, checkpoint: str) -> "StateDict":
    """A checkpoint's weights in float64, through the Flax model."""
    import jax

    from jaxnets.port import load_weights, to_state_dict

    with jax.enable_x64(True):
        return to_state_dict(load_weights(model.build("float64"), path, checkpoint))


def _noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 32, 32, 3))


def _images(path: Path) -> np.ndarray:
    """Images from a .npy file, (N, H, W, 3), or (N, 3, H, W) as PyTorch has them."""
    try:
        with open_file(path) as file:
            images = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise UserError(f"{path}: not a readable .npy file ({e})") from e
    shape = getattr(images, "shape", ())
    if len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        images = images.transpose(0, 2, 3, 1)
    if len(shape) != 4 or images.shape[3] != 3 or not images.size or images.dtype.kind != "f":
        raise UserError(f"{path}: floats of shape (N, H, W, 3) are needed, not {shape}")
    if images.shape[1:3] != (32, 32):
        raise UserError(f"{path}: images of 32x32 are needed, not {images.shape[1:3]}")
    return images
