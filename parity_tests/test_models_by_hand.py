"""Both frameworks against each forward pass written out: options, and where dropout stands."""

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from golden_figures import images, state_dict, uniform
from helpers import relative_error

import jaxnets.models.layers
import torch_ref.models
import torch_ref.models.layers
from jaxnets.models import create_empty, list_models
from jaxnets.models.functional import split
from jaxnets.models.torch_names import from_state_dict

# One of each network as narrow as it can be; the last part is what its forward pass takes.
CASES = [
    ("se_resnet", {"num_channels": 16, "num_blocks": (2, 1)}, {}),
    ("se_resnet", {"num_channels": 16, "num_blocks": (1, 2), "se": "block"}, {}),
    ("se_resnet", {"num_channels": 4, "num_blocks": (1, 1), "se": "none"}, {}),
    ("mish_se_resnet18", {"widths": (16, 16, 32, 32), "num_blocks": (1, 2, 1, 1)}, {}),
    ("dense_se_resnet", {"depth": 2, "widths": (16, 32, 32)}, {}),
    ("resnet18", {"num_channels": 4, "num_blocks": (1, 2, 1, 1)}, {}),
    ("cifar100_v1", {"width": 1 / 64}, {}),
    ("cifar100_v2", {"width": 1 / 16}, {}),
    ("cifar100_v3", {"width": 1 / 8}, {}),
    ("cifar100_v3", {"width": 1 / 8, "use_fire8": True}, {"use_fire8": True}),
    ("cifar100_v4", {"width": 1 / 32}, {}),
    ("cifar100_v5", {"width": 1 / 4}, {}),
    ("cifar100_v5", {"width": 1 / 4, "residual": False}, {"residual": False}),
]
IDS = ["-".join([name, *map(str, o.values())]).replace(" ", "") for name, o, _ in CASES]
RATES = {"cifar100_v4": ("drop", "conv_drop"), "cifar100_v5": ("drop", "conv_drop")}


def mark(shape):
    """Factors of .5 to 1.5 for values (N, C, ...): as a mask would, they tell pooling's place."""
    return 0.5 + uniform("mark", tuple(shape))


def marked(x):
    """What stands for dropout in training, of a tensor."""
    return x * torch.from_numpy(mark(x.shape))


@pytest.fixture
def marks(monkeypatch):
    """Every dropout layer with a rate above 0 marks what it gets."""

    def in_jax(self, x):
        if self.deterministic or self.rate == 0:
            return x
        factors = mark((len(x), x.shape[-1], *x.shape[1:-1]))
        return x * np.moveaxis(factors, 1, -1)

    def in_torch(self, x):
        return x if not self.training or self.p == 0 else marked(x)

    monkeypatch.setattr(jaxnets.models.layers.Dropout, "__call__", in_jax)
    monkeypatch.setattr(torch_ref.models.layers.Dropout, "forward", in_torch)


def test_every_network_is_written_out():
    assert sorted(by_hand.FORWARD) == sorted(list_models()) == sorted({name for name, *_ in CASES})


@pytest.mark.usefixtures("marks")
@pytest.mark.parametrize(("name", "options", "forward"), CASES, ids=IDS)
def test_logits(name, options, forward):
    """In evaluation, and in training with dropout in all its places."""
    options = options | dict.fromkeys(RATES.get(name, ("drop",)), 0.5)
    torch.manual_seed(0)
    twin = torch_ref.models.create_model(name, **options).double()
    values = state_dict((k, tuple(v.shape), _first(twin, k)) for k, v in twin.state_dict().items())
    tensors = {k: torch.tensor(v) for k, v in values.items()}
    twin.load_state_dict(tensors)
    model = create_empty(name, param_dtype=jnp.float64, **options)
    from_state_dict(model, values)
    network, params, stats = split(model)
    x = images()[:3]

    def run(params, x):
        return [network.apply(params, stats, x, train=train)[0] for train in (False, True)]

    quick = {"xla_backend_optimization_level": 0}
    ours = jax.jit(run, compiler_options=quick)(params, jnp.asarray(x.transpose(0, 2, 3, 1)))
    x = torch.tensor(x)
    for train, got in zip((False, True), ours, strict=True):
        net = by_hand.Net(tensors, train, marked if train else lambda x: x)
        want = by_hand.FORWARD[name](net, x, **forward).numpy()
        assert np.isfinite(want).all()
        mode = "training" if train else "evaluation"
        for side, value in (("jax", got), ("torch", twin.train(train)(x).detach().numpy())):
            error = relative_error(np.asarray(value), want)
            assert error <= 1e-11, f"{side}, {mode}: relative error {error:.2g}"


def _first(twin: torch.nn.Module, name: str) -> str:
    """The first name of what the twin has under `name`."""
    tensors = twin.state_dict(keep_vars=True)
    return next(k for k, v in tensors.items() if v is tensors[name])
