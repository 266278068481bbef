"""Both frameworks against the published code: every network at full size, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from golden_figures import LABELS, assert_golden, images, load, state_dict
from torch.nn import functional as F

import torch_ref.models
from jaxnets.models import create_empty
from jaxnets.models.functional import split
from jaxnets.models.torch_names import from_state_dict, slots, to_state_dict

BOUND = 1e-10
EVALUATION, TRAINING = ("eval_logits",), ("train_logits", "loss", "gradients", "statistics_after")
SMALL = ("cifar100_v2", "cifar100_v3", "cifar100_v4", "mish_se_resnet18")
MIDDLE = ("se_resnet", "dense_se_resnet_third")
LARGE = ("cifar100_v1", "cifar100_v5_False")
LARGE += tuple(f"dense_se_resnet_{share}" for share in ("none", "second_third", "all"))


def at_once(*names: str) -> pytest.MarkDecorator:
    """These networks in every run of the tests, all others in the slow ones."""
    others = [name for name in (*SMALL, *MIDDLE, *LARGE) if name not in names]
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in others]
    return pytest.mark.parametrize("name", [*names, *slow])


# Compiling takes longest, except for these gradients, which LLVM makes ten times as fast.
QUICK, FAST = ({"xla_backend_optimization_level": level} for level in (0, 1))


def options(want: dict) -> dict:
    """The options of a file's network: its own, and no dropout."""
    with_two = want["model"] in ("cifar100_v4", "cifar100_v5")
    return want["options"] | {"drop": 0.0} | ({"conv_drop": 0.0} if with_two else {})


def jax_model(want: dict):
    """The network with the golden weights, loaded by the porting rule."""
    model = create_empty(
        want["model"], want["num_classes"], param_dtype=jnp.float64, **options(want)
    )
    entries = slots(model)
    first: dict[str, str] = {}
    for slot in entries:
        first.setdefault(slot.path, slot.name)
    from_state_dict(model, state_dict((s.name, s.shape, first[s.path]) for s in entries))
    return model


def torch_model(want: dict) -> torch.nn.Module:
    """The twin with the golden weights."""
    twin = torch_ref.models.create_model(want["model"], want["num_classes"], **options(want))
    first: dict[int, str] = {}
    entries = []
    for name, tensor in twin.state_dict(keep_vars=True).items():
        entries.append((name, tuple(tensor.shape), first.setdefault(id(tensor), name)))
    twin = twin.double()
    twin.load_state_dict({name: torch.tensor(value) for name, value in state_dict(entries).items()})
    return twin


def jax_training(want: dict) -> dict:
    """One training pass of the network, by the files' names."""
    model = jax_model(want)
    network, params, stats = split(model)

    def loss_fn(params, x):
        logits, after = network.apply(params, stats, x, train=True)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS)).mean()
        return loss, (logits, after)

    step = jax.value_and_grad(loss_fn, argnums=(0, 1), has_aux=True)
    x = jnp.asarray(images().transpose(0, 2, 3, 1))
    (loss, (logits, after)), (grads, grad) = jax.jit(step, compiler_options=FAST)(params, x)
    named = {}
    for slot in reversed(slots(model)):  # so that a shared kernel keeps its first name
        if slot.path in grads and not slot.path.startswith(network.unused):
            named[slot.path] = slot.name, slot.to_torch(np.asarray(grads[slot.path]))
    trained = network.merge(params, after)
    return {
        "train_logits": logits,
        "loss": loss,
        "gradients": {"images": np.asarray(grad).transpose(0, 3, 1, 2), **dict(named.values())},
        "statistics_after": _statistics(to_state_dict(trained)),
    }


def torch_training(want: dict) -> dict:
    """One training pass of the twin, by the files' names."""
    twin = torch_model(want).train()
    x = torch.tensor(images(), requires_grad=True)
    logits = twin(x)
    loss = F.cross_entropy(logits, torch.tensor(LABELS))
    loss.backward()
    named = {n: p.grad.numpy() for n, p in twin.named_parameters() if p.grad is not None}
    after = {name: value.numpy() for name, value in twin.named_buffers()}
    return {
        "train_logits": logits.detach().numpy(),
        "loss": loss.item(),
        "gradients": {"images": x.grad.numpy(), **named},
        "statistics_after": _statistics(after),
    }


def _statistics(tensors: dict) -> dict:
    return {name: value for name, value in tensors.items() if ".running_" in name}


@at_once(*SMALL, *MIDDLE)
def test_evaluation_in_jax(name):
    want = load(name)
    model = jax_model(want)
    model.eval()
    network, params, stats = split(model)
    x = jnp.asarray(images().transpose(0, 2, 3, 1))
    run = jax.jit(lambda p, x: network.apply(p, stats, x, train=False)[0], compiler_options=QUICK)
    assert_golden({"eval_logits": run(params, x)}, want, BOUND, EVALUATION)


@at_once(*SMALL)
def test_training_in_jax(name):
    want = load(name)
    assert_golden(jax_training(want), want, BOUND, TRAINING)


@at_once(*SMALL, *MIDDLE)
def test_torch_twin(name):
    want = load(name)
    with torch.no_grad():
        logits = torch_model(want).eval()(torch.tensor(images())).numpy()
    assert_golden({"eval_logits": logits}, want, BOUND, EVALUATION)
    assert_golden(torch_training(want), want, BOUND, TRAINING)
