"""Proves a port: both frameworks compute the same logits from source and destination."""

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import UserError
from jaxnets.models.functional import split
from jaxnets.models.torch_names import StateDict, from_state_dict
from jaxnets.port.files import to_tensors
from jaxnets.port.guess import Model

if TYPE_CHECKING:
    import torch

IMAGES = 2
# Of float64, relative to the largest logit: beyond it the port is wrong.
BOUND = 1e-8


class Differences(NamedTuple):
    """The largest difference between logits, over random images."""

    float32: float
    float64: float
    largest: float
    """The largest logit."""
    between: str


def differences(
    model: Model, source: StateDict, written: StateDict, *, written_by_jax: bool
) -> Differences:
    """Runs JAX on one side and PyTorch on the other; JAX on both where torch is not installed.

    Both compute all of it in float32, then in float64, whatever dtypes the tensors have.

    Args:
        written_by_jax: the destination is JAX's, so JAX runs it; else PyTorch does.

    Raises:
        UserError: the logits differ by more than rounding.
    """
    try:
        import torch  # noqa: F401

        run, other = run_torch, "PyTorch"
    except ImportError:
        run, other = run_jax, "JAX"
    in_jax, in_torch = (written, source) if written_by_jax else (source, written)
    sides = ("destination", "source") if written_by_jax else ("source", "destination")
    images = np.random.default_rng(0).standard_normal((IMAGES, 32, 32, 3))
    found = []
    for dtype in ("float32", "float64"):
        a, b = run_jax(model, in_jax, images, dtype), run(model, in_torch, images, dtype)
        found.append(float(np.abs(a - b).max()))
    largest = float(np.abs(a).max())
    between = f"{sides[0]} in JAX, {sides[1]} in {other}"
    if found[1] > BOUND * max(1.0, largest):
        raise UserError(
            f"the logits of {between} differ by {found[1]:.2g} in float64, so the port is wrong"
        )
    return Differences(*found, largest, between)


def run_jax(model: Model, state_dict: StateDict, images: np.ndarray, dtype: str) -> np.ndarray:
    """Logits (N, K) of images (N, 32, 32, 3) in evaluation mode, all computed in `dtype`."""
    with jax.enable_x64(dtype == "float64"):
        network, params, stats = split(build(model, state_dict, dtype))

        def logits(params, stats, images):
            return network.apply(params, stats, images, train=False)[0]

        # Run once: compiling quickly is worth more than running fast.
        options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        with jax.default_matmul_precision("highest"):
            run = jax.jit(logits, compiler_options=options)
            return np.asarray(run(params, stats, jnp.asarray(images, dtype)))


def run_torch(model: Model, state_dict: StateDict, images: np.ndarray, dtype: str) -> np.ndarray:
    """The same by the PyTorch twin, on the CPU."""
    import torch

    twin = build_twin(model, state_dict, dtype).eval()
    with torch.no_grad():
        return twin(torch.tensor(images.transpose(0, 3, 1, 2).astype(dtype))).numpy()


def build(model: Model, state_dict: StateDict, dtype: str) -> nnx.Module:
    """The Flax model with the weights of a state_dict, parameters in `dtype`."""
    built = model.build(dtype)
    from_state_dict(built, state_dict)
    return built


def build_twin(model: Model, state_dict: StateDict, dtype: str) -> "torch.nn.Module":
    """The PyTorch twin with the weights of a state_dict, parameters in `dtype`."""
    import torch

    from torch_ref.models import create_model as create_twin

    twin = create_twin(model.name, model.num_classes, **model.options)
    twin.to(getattr(torch, dtype)).load_state_dict(to_tensors(state_dict))
    return twin
