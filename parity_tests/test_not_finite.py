"""NaN, Inf, denormals and signed zeros come out of every layer and network as in PyTorch.

In float32 and compiled as the commands compile, with the flag of `jaxnets.devices.cpu_flags` in
force (`conftest.py` sets it): XLA's own maxima turn NaN into numbers there.
"""

import copy
import re
from pathlib import Path

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from helpers import make_batch, make_pair, relative_error
from torch import nn
from torch.nn import functional as F

import jaxnets.models.layers as ours
from jaxnets import extrema
from jaxnets.models import list_models
from jaxnets.optim import transforms
from jaxnets.parity.masks import dropout_masks, force_masks, nchw
from jaxnets.train.step import cross_entropy

NAN, INF, DENORMAL = float("nan"), float("inf"), 1e-40
SPECIAL = {"nan": NAN, "inf": INF, "-inf": -INF, "denormal": DENORMAL, "-0": -0.0}
EXCITED = {"num_channels": 16, "num_blocks": (1, 1), "se": "block", "drop": 0.2}
NARROW = helpers.NARROW | {"se_resnet": EXCITED}


def assert_same(got, want, bound: float = 1e-4, name: str = "") -> None:
    """Not finite in the same places, and close where finite; XLA takes denormals for zeros."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, name
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=name)
    if finite.any():
        assert relative_error(got[finite], want[finite]) <= bound, name


# Layers


def sprinkled(shape: tuple[int, ...]) -> np.ndarray:
    """Noise in which each special value, and pairs of them, lie at random places."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    flat = x.reshape(-1)
    for value in (*SPECIAL.values(), 0.0, -DENORMAL, 100.0, -100.0):
        flat[rng.choice(x.size, x.size // 50, replace=False)] = value
    return x


IMAGES = (8, 32, 32, 16)  # large enough for XLA's fast paths, where NaN was lost
ELEMENTWISE = {
    "relu": (ours.ReLU(), F.relu),
    "mish": (ours.Mish(), F.mish),
    "sigmoid": (ours.Sigmoid(), torch.sigmoid),
    "max pooling": (ours.MaxPool(), nn.MaxPool2d(2)),
    "mean": (ours.GlobalAvgPool(), nn.AdaptiveAvgPool2d(1)),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_layers(name):
    layer, twin = ELEMENTWISE[name]
    x = sprinkled(IMAGES)
    y, vjp = jax.vjp(jax.jit(layer), x)
    g = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    given = nchw(np.where(np.abs(x) < 1e-30, 0, x)).requires_grad_()  # as XLA sees them
    out = twin(given)
    out.backward(nchw(g))
    assert np.isnan(np.asarray(y)).sum() == torch.isnan(out).sum() > 0
    assert_same(nchw(y), out.detach(), 1e-6)
    assert_same(nchw(jax.jit(vjp)(g)[0]), given.grad, 1e-6)


@pytest.mark.parametrize("odd", [(1, 5, 7, 3), (2, 2, 2, 1), (1, 3, 2, 4)])
def test_max_pooling_of_odd_sizes_and_equal_values(odd):
    x = np.random.default_rng(0).integers(-1, 2, odd).astype(np.float32)
    y, vjp = jax.vjp(extrema.max_pool, x)
    given = nchw(x).requires_grad_()
    out = F.max_pool2d(given, 2)
    out.backward(torch.ones_like(out))
    np.testing.assert_array_equal(nchw(y), out.detach())
    np.testing.assert_array_equal(nchw(vjp(jnp.ones_like(y))[0]), given.grad)


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("train", [True, False])
def test_batch_norm(train, special):
    x = np.random.default_rng(0).standard_normal(IMAGES).astype(np.float32)
    x[3, 2, 1, 0] = SPECIAL[special]
    layer, twin = ours.BatchNorm(16), nn.BatchNorm2d(16)
    layer.use_running_average = not train
    twin.train(train)
    y = nnx.jit(lambda layer, x: layer(x))(layer, x)
    assert_same(nchw(y), twin(nchw(x)).detach(), 1e-5)
    assert_same(layer.mean[...], twin.running_mean, 1e-5)
    assert_same(layer.var[...], twin.running_var, 1e-5)


def test_dropout_hides_no_value_that_is_not_finite():
    layer = ours.Dropout(0.5, rngs=nnx.Rngs(0))
    y = np.asarray(nnx.jit(lambda layer, x: layer(x))(layer, np.full((64, 64), NAN, np.float32)))
    assert np.isnan(y).all()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_loss_and_prediction(value):
    logits = np.random.default_rng(0).standard_normal((512, 100)).astype(np.float32)
    logits[7, 3] = value
    labels = np.arange(512) % 100
    losses = jax.jit(cross_entropy)(logits, labels)
    theirs = torch.tensor(logits)
    assert_same(losses, F.cross_entropy(theirs, torch.tensor(labels), reduction="none"))
    assert int(jax.jit(lambda x: x.argmax(1))(logits)[7]) == int(theirs[7].argmax())


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_clipped_gradients(kind, value):
    clips = {
        "value": (transforms.clip_by_value(0.5), nn.utils.clip_grad_value_),
        "norm": (transforms.clip_by_global_norm(0.5), nn.utils.clip_grad_norm_),
    }
    ours, theirs = clips[kind]
    g = np.random.default_rng(0).standard_normal(2**18).astype(np.float32)
    g[11] = value
    parameter = nn.Parameter(torch.zeros(g.size))
    parameter.grad = torch.tensor(g)
    theirs([parameter], 0.5)
    clipped, _ = jax.jit(lambda g: ours.update({"g": g}, ours.init({"g": g})))(g)
    assert_same(clipped["g"], parameter.grad)


# Networks


def passes(network, params, stats, images, labels, key) -> dict:
    """Logits of both modes, and gradients of the training pass, under the twin's dropout masks."""

    def loss(params, images):
        logits, _ = network.apply(params, stats, images, train=True, key=key)
        return cross_entropy(logits, labels).mean(), logits

    grads, logits = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, images)
    masks = dropout_masks(network, params, stats, images, key)
    evaluated = network.apply(params, stats, images, train=False)[0]
    return {"eval": evaluated, "train": logits, "grads": grads, "masks": masks}


@pytest.mark.parametrize("name", list_models())
def test_networks(name):
    pair = make_pair(name, "float32", **NARROW[name])
    clean = make_batch(8, 10, "float32")
    quick = {"xla_backend_optimization_level": 0}  # LLVM's alone: XLA's fast paths stay
    run = jax.jit(passes, static_argnums=0, compiler_options=quick)
    for special, value in SPECIAL.items():
        images = clean.images.copy()
        if np.isfinite(value):
            images[1] = value
        else:
            images[1, 5, 6, 0] = value
        got = run(pair.network, pair.params, pair.stats, images, clean.labels, clean.key)
        given = nchw(images).requires_grad_()
        # A copy: training would leave NaN in its statistics, which the network's arrays share.
        twin = copy.deepcopy(pair.twin)
        want_eval = twin.eval()(given.detach()).detach()
        force_masks(twin.train(), got["masks"])
        logits = twin(given)
        F.cross_entropy(logits, torch.tensor(clean.labels)).backward()
        where = f"{name}, {special}: "
        assert np.isfinite(got["eval"][1]).all() == np.isfinite(value)
        assert_same(got["eval"], want_eval, 1e-4, where + "eval")
        assert_same(got["train"], logits.detach(), 1e-4, where + "train")
        assert np.isfinite(got["train"]).all() == np.isfinite(value)
        if not np.isfinite(value):  # the gradients' sizes are others' tests
            for key, p in twin.named_parameters():
                if p.grad is None:
                    continue
                ours = pair.named(got["grads"][0])[key]
                np.testing.assert_array_equal(
                    np.isfinite(ours), np.isfinite(p.grad.numpy()), where + key
                )
            mine = np.isfinite(nchw(got["grads"][1]).numpy())
            np.testing.assert_array_equal(mine, np.isfinite(given.grad.numpy()), where + "images")


# What brings it back

MAXIMA = re.compile(
    r"jnp\.(maximum|minimum|clip|max|min|fmax|nanmax)\(|lax\.(max|min|clamp|reduce_window)\w*\("
    r"|nn\.(relu\w*|max_pool|hard_\w+|leaky_relu)\(|optax\.(clip|adaptive_grad_clip)\w*\("
    r"|(?<!extrema)\.(max|min|clip)\("
)
# Of finite numbers alone: counts and steps.
ALLOWED = {
    "models/layers.py": ["unbiased = var * (count / jnp.maximum(count - 1, 1))"],
    "optim/schedules.py": [
        "return lambda count: main(jnp.maximum(count - length, 0))",
        "t = jnp.minimum(jnp.asarray(count, float), last)",
    ],
}


def test_no_other_maximum_is_in_a_network_or_an_optimizer():
    root = Path(extrema.__file__).parent
    for path in [*root.glob("models/*.py"), *root.glob("optim/*.py"), root / "train/step.py"]:
        name = str(path.relative_to(root))
        found = [x.strip() for x in path.read_text().splitlines() if MAXIMA.search(x)]
        assert found == ALLOWED.get(name, []), f"{name}: use jaxnets.extrema"
