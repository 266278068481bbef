"""What the parity tests share: a model and its twin with the same values, run side by side."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn import functional as F

import torch_ref.models
from jaxnets.data import Dataset
from jaxnets.data.sources import load_digits
from jaxnets.devices import runtime
from jaxnets.models import create_empty
from jaxnets.models.functional import Arrays, Network, split
from jaxnets.models.torch_names import Slot, from_state_dict, slots
from jaxnets.parity.masks import dropout_masks, force_masks, nchw

DTYPES = {"float32": torch.float32, "float64": torch.float64}
BOUNDS = {
    "float64": {"eval": 1e-12, "train": 1e-12, "loss": 1e-12, "stats": 1e-12, "grad": 1e-10},
    "float32": {"eval": 1e-5, "train": 1e-5, "loss": 1e-5, "stats": 1e-5},
}
"""Relative errors allowed."""

# Networks narrow enough for a trajectory; their structure is the recipe's.
NARROW = {
    "se_resnet": {"num_channels": 16, "num_blocks": (1, 1)},
    "mish_se_resnet18": {"widths": (16, 16, 16, 16), "num_blocks": (1, 1, 1, 1)},
    "dense_se_resnet": {"widths": (16, 16, 16), "depth": 2},
    "resnet18": {"num_channels": 4, "num_blocks": (1, 1, 1, 1)},
    "cifar100_v1": {"width": 1 / 64},
    "cifar100_v2": {"width": 1 / 16},
    "cifar100_v3": {"width": 1 / 8},
    "cifar100_v4": {"width": 1 / 32},
    "cifar100_v5": {"width": 1 / 4},
}


def few_digits(train: int, test: int = 30) -> Dataset:
    """The first images of the digits' splits, for trainings that a test can bear."""
    digits = load_digits()
    return digits._replace(
        train_images=digits.train_images[:train],
        train_labels=digits.train_labels[:train],
        test_images=digits.test_images[:test],
        test_labels=digits.test_labels[:test],
    )


@contextlib.contextmanager
def little_effort(level: int = 0) -> Iterator[pytest.MonkeyPatch]:
    """Commands called in here compile quickly, use one thread, and change no setting of jax.

    Args:
        level: of LLVM's optimization. 0 takes half the time to compile, and a step ten times as
            long: for programs that run a few times; 1 for training.
    """
    options = {"xla_backend_optimization_level": level}
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        # x64 is on here already; the commands would leave it on for the tests that follow.
        patch.setattr(runtime, "setup", mock.create_autospec(runtime.setup))
        patch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=options))
        torch.set_num_threads(1)
        yield patch
    torch.set_num_threads(threads)


class Pair(NamedTuple):
    """A model as pure arrays, and its twin with the same values."""

    network: Network
    params: Arrays
    stats: Arrays
    slots: list[Slot]
    twin: torch.nn.Module

    def named(self, values: Mapping[str, jax.Array], prefix: str = "") -> dict[str, np.ndarray]:
        """Arrays by NNX path (params, gradients, statistics) by PyTorch's names, in its layouts."""
        return {
            prefix + s.name: s.to_torch(np.asarray(values[s.path]))
            for s in self.slots
            if s.path in values
        }


class Batch(NamedTuple):
    """Images (N, H, W, 3), labels (N,), and the key of the dropout masks."""

    images: np.ndarray
    labels: np.ndarray
    key: jax.Array


def make_pair(name: str, dtype: str, seed: int = 0, **options) -> Pair:
    """Model `name` and its twin: first weights; random BatchNorm statistics, scales and biases."""
    torch.manual_seed(seed)
    twin = torch_ref.models.create_model(name, **options)
    with torch.no_grad():
        for module in twin.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
                module.num_batches_tracked.random_(1, 1000)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
    twin.to(DTYPES[dtype])
    model = create_empty(name, param_dtype=jnp.dtype(dtype), **options)
    from_state_dict(model, {k: v.numpy() for k, v in twin.state_dict().items()})
    return Pair(*split(model), slots(model), twin)


def make_batch(size: int, num_classes: int, dtype: str, seed: int = 0) -> Batch:
    """A batch of normal noise."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size, 32, 32, 3)).astype(dtype)
    return Batch(images, rng.integers(num_classes, size=size), jax.random.key(seed))


def run_jax(pair: Pair, batch: Batch, gradients: bool) -> tuple[dict, dict]:
    """The results of `run_torch` by the same names, and the dropout masks of the training pass."""
    network = pair.network

    def loss_and_aux(params, images, stats, labels, key):
        logits, stats = network.apply(params, stats, images, train=True, key=key)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (logits, stats)

    def run(params, stats, images, labels, key):
        out = {"eval": network.apply(params, stats, images, train=False)[0]}
        masks = dropout_masks(network, params, stats, images, key)
        arguments = params, images, stats, labels, key
        if gradients:
            f = jax.value_and_grad(loss_and_aux, argnums=(0, 1), has_aux=True)
            (out["loss"], aux), grads = f(*arguments)
        else:
            (out["loss"], aux), grads = loss_and_aux(*arguments), None
        out["train"], stats = aux
        return out, stats, grads, masks

    # Compiled anew in every call, so that nothing from before a mutation is used again; quickly,
    # because each program runs only once.
    run = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})
    out, stats, grads, masks = run(pair.params, pair.stats, *batch)
    out = {name: np.asarray(value) for name, value in out.items()} | pair.named(stats, "stats.")
    if gradients:
        out |= pair.named(grads[0], "grad.")
        out["grad.images"] = nchw(grads[1]).numpy()
    return out, masks


def run_torch(pair: Pair, batch: Batch, gradients: bool, masks: Mapping) -> dict[str, np.ndarray]:
    """Logits of an eval and a train pass, loss, statistics and gradients, by name."""
    twin = pair.twin
    images = nchw(batch.images).requires_grad_(gradients)
    out = {"eval": twin.eval()(images)}
    twin.train()
    force_masks(twin, masks)
    out["train"] = twin(images)
    out["loss"] = F.cross_entropy(out["train"], torch.tensor(batch.labels))
    out |= {f"stats.{name}": buffer for name, buffer in twin.named_buffers()}
    if gradients:
        out["loss"].backward()
        # A parameter that nothing uses has no gradient in PyTorch, and a zero one in JAX.
        for name, p in twin.named_parameters(remove_duplicate=False):
            out[f"grad.{name}"] = torch.zeros_like(p) if p.grad is None else p.grad
        out["grad.images"] = images.grad
    return {name: value.detach().numpy() for name, value in out.items()}


def relative_error(got: np.ndarray, want: np.ndarray, floor: float = 0.0) -> float:
    """max |got - want| / max(max |want|, floor); the difference itself if that is 0."""
    return float(np.abs(got - want).max() / (max(np.abs(want).max(), floor) or 1))


def assert_close(
    got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], bounds: Mapping[str, float]
) -> dict[str, float]:
    """Compares by name, each against the bound of its name's first part; returns the worst errors.

    Raises:
        AssertionError: names, shapes, dtypes or values differ; it says where, and by how much.
    """
    assert got.keys() == want.keys(), sorted(got.keys() ^ want.keys())
    # What cancellation leaves of a gradient holds the rounding of what was cancelled: nothing else
    # of a bias before a BatchNorm, much of some kernels there.  Below 1e-3 of the network's largest
    # gradient the scale is that: an error of 1e-13 of it (docs/parity.md).
    grads = [np.abs(value).max() for name, value in want.items() if name.startswith("grad.")]
    floors = {"grad": 1e-3 * max(grads, default=0.0)}
    worst: dict[str, float] = {}
    for name, value in want.items():
        kind = name.partition(".")[0]
        assert got[name].shape == value.shape, (name, got[name].shape, value.shape)
        assert got[name].dtype == value.dtype or value.dtype.kind == "i", (name, got[name].dtype)
        error = relative_error(got[name], value, floors.get(kind, 0.0))
        assert error <= bounds[kind], f"{name}: relative error {error:.2g} > {bounds[kind]}"
        worst[kind] = max(worst.get(kind, 0.0), error)
    return worst


def check(
    name: str, dtype: str, *, gradients: bool, batch_size: int = 2, seed: int = 0, **options
) -> dict[str, float]:
    """One model against its twin within BOUNDS: eval and train pass, statistics, gradients."""
    pair = make_pair(name, dtype, seed, **options)
    num_classes = len([*pair.twin.parameters()][-1])
    batch = make_batch(batch_size, num_classes, dtype, seed)
    got, masks = run_jax(pair, batch, gradients)
    return assert_close(got, run_torch(pair, batch, gradients, masks), BOUNDS[dtype])
