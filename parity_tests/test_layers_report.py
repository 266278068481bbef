"""The comparison of layers: equal weights agree, and each mistake is found where it was made."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_mutations import (
    biased_variance,
    channel_minor_flatten,
    same_padding,
    swapped_expand,
    wrong_epsilon,
    wrong_momentum,
)

import torch_ref.models
from jaxnets.errors import UserError
from jaxnets.models.layers import Conv
from jaxnets.parity.__main__ import main
from jaxnets.parity.hints import _normalisation
from jaxnets.parity.layers import Model, compare, error
from jaxnets.parity.layers_report import verdict

RESNET = Model("se_resnet", None, {"num_channels": 16, "num_blocks": (1, 1)})
HYBRID = Model("cifar100_v4", 10, {"width": 1 / 32})
FIRE = Model("cifar100_v2", 10, {"width": 1 / 16})
DENSE = Model("dense_se_resnet", None, {"depth": 2, "widths": (16, 16, 16)})
IMAGES = np.random.default_rng(0).standard_normal((2, 32, 32, 3))


@functools.cache
def _weights(name: str) -> dict[str, np.ndarray]:
    model = next(m for m in (RESNET, HYBRID, FIRE, DENSE) if m.name == name)
    torch.manual_seed(0)
    twin = torch_ref.models.create_model(model.name, model.num_classes, **model.options)
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return {k: v.numpy() for k, v in twin.state_dict().items()}


def _compare(model, change=None, **kwargs):
    """JAX with changed weights against PyTorch with the right ones."""
    theirs = _weights(model.name)
    return compare(model, theirs | (change or {}), theirs, IMAGES, **kwargs)


@pytest.mark.parametrize(
    ("model", "train"),
    [(RESNET, False), (RESNET, True), (HYBRID, False), (DENSE, True)],
    ids=["se_resnet", "se_resnet-train", "cifar100_v4", "dense_se_resnet-train"],
)
def test_equal_weights_agree(model, train):
    found = _compare(model, train=train)
    assert found.ok, verdict(found)
    assert not found.parameters
    assert [row.name for row in found.layers][:3] == (
        ["(input)", "conv1.0", "conv1.1"] if model is HYBRID else ["(input)", "conv1", "bn1"]
    )
    assert found.layers[-1].name == "(model)"
    assert bool(found.statistics) == train
    assert max(row.float64.relative for row in found.layers) < 1e-12
    assert 1e-9 < max(row.float32.relative for row in found.layers) < 1e-4
    assert min(row.float64.cosine for row in found.layers) > 1 - 1e-12
    assert verdict(found).startswith("EQUAL")


CODE = [
    (same_padding, RESNET, False, "residual_layers.1.0.conv1", "SAME padding at stride 2"),
    (wrong_epsilon, RESNET, False, "bn1", "epsilon: 0.001 in JAX, 1e-05 in PyTorch"),
    (channel_minor_flatten, HYBRID, False, "classifier.0", "flatten order: channel-minor"),
    (wrong_momentum, RESNET, True, "bn1.running_mean", "momentum: JAX takes 0.9 .* PyTorch 0.1"),
    (biased_variance, RESNET, True, "bn1.running_var", "biased variance"),
    (swapped_expand, FIRE, False, "fire2", "its parameters agree: what it computes"),
]
"""The mistake in the code, whether it takes training to see it, the first layer and the hint."""


@pytest.mark.parametrize(
    ("mutate", "model", "train", "first", "hint"), CODE, ids=[c[0].__name__ for c in CODE]
)
def test_a_mistake_in_the_code(monkeypatch, mutate, model, train, first, hint):
    mutate(monkeypatch)
    found = _compare(model, train=train)
    assert found.first.name == first
    assert not found.parameters
    assert not found.ok
    assert re.match(hint, found.hint), found.hint


def _transposed(weight):
    return weight.transpose(0, 1, 3, 2)


def _channel_minor(weight):
    return weight.reshape(len(weight), -1, 4, 4).transpose(0, 2, 3, 1).reshape(len(weight), -1)


WEIGHTS = [
    (
        RESNET,
        "residual_layers.0.0.conv2.weight",
        _transposed,
        "transposed kernel: height and width",
    ),
    (RESNET, "linear.weight", lambda w: w + 1e-6, "its weights differ: weight"),
    (RESNET, "residual_layers.1.0.bn2.running_var", lambda v: v * 4095 / 4096, ".* JAX.*n = 4096"),
    (HYBRID, "classifier.2.weight", _channel_minor, "flatten order: columns of 4x4 maps"),
]
"""The model, the tensor of JAX's that is changed, how, and the hint."""


@pytest.mark.parametrize(("model", "name", "change", "hint"), WEIGHTS, ids=[w[1] for w in WEIGHTS])
def test_a_mistake_in_the_weights(model, name, change, hint):
    found = _compare(model, {name: change(_weights(model.name)[name].astype(np.float64))})
    assert [row.name for row in found.parameters] == [name]
    assert found.first.name == name.rpartition(".")[0]
    assert re.match(hint, found.hint), found.hint


def test_different_normalisation_is_told_from_the_input():
    found = _compare(RESNET, torch_images=(IMAGES - 0.1) / [0.2, 0.25, 0.5])
    assert found.first.name == "(input)"
    assert found.hint.startswith("normalisation constants: JAX's channels are PyTorch's x as 0.2 x")
    assert _normalisation(IMAGES, IMAGES[::-1]) == "the two inputs are not the same images"


def test_products_of_few_bits_are_told_from_a_mistake(monkeypatch):
    call = Conv.__call__

    def tf32(self, x):
        return call(self, jax.lax.reduce_precision(x, 8, 10) if x.dtype == jnp.float32 else x)

    monkeypatch.setattr(Conv, "__call__", tf32)
    found = _compare(RESNET)
    assert found.first.name == "conv1"
    assert found.hint.startswith("float64 agrees: products in TF32")


def test_what_is_not_finite_is_beyond():
    found = _compare(RESNET, {"bn1.bias": np.full(16, np.nan)})
    assert found.first.name == "bn1"
    assert not found.ok


def test_error_of_known_arrays():
    assert error(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == (1.0, 0.25, 24 / 25)
    assert error(np.zeros(2), np.zeros(2)) == (0.0, 0.0, 1.0)
    assert error(np.zeros(2), np.zeros(3)).relative == np.inf


def _command(*flags):
    return ["--model", "se_resnet", "--option=num_channels=16", "--option=num_blocks=1,1", *flags]


def _save(path, **changes):
    weights = _weights("se_resnet") | changes
    torch.save({k: torch.tensor(v) for k, v in weights.items()}, path)
    return str(path)


def test_the_command_writes_its_report(tmp_path, capsys):
    right = _save(tmp_path / "right.pth")
    wrong = _save(tmp_path / "wrong.pth", **{"linear.bias": np.ones(10, np.float32)})
    assert main(_command("--torch", right, "--out", str(tmp_path))) == 0
    assert "EQUAL" in capsys.readouterr().out
    assert main(_command("--jax", wrong, "--torch", right, "--out", str(tmp_path))) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: first in linear" in out
    assert "Hint: its weights differ: bias" in out
    report = json.loads((tmp_path / "layers.json").read_text())
    assert (report["first"], report["ok"]) == ("linear", False)
    assert [row["name"] for row in report["parameters"]] == ["linear.bias"]
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to compare"),
        (["--torch", "none.pth"], "no such file"),
        (["--torch", "folder"], "not one of .pt"),
        (["--jax", "x.pth", "--batch-size", "1", "--train"], "--batch-size 1: at least 2"),
        (["--jax", "x.pth", "--imges", "y"], "did you mean --images"),
        (["--jax", "x.pth", "--torch-images", "y"], "give the other side's"),
    ],
)
def test_mistakes_in_the_command(flags, message):
    with pytest.raises(UserError, match=message):
        main(_command(*flags))


def test_weights_of_another_model(tmp_path):
    path = _save(tmp_path / "a.pth")
    for side in ("--jax", "--torch"):
        with pytest.raises(UserError, match="do not fit the model"):
            main(["--model", "resnet18", side, path])
