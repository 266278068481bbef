"""The comparison notices: each of these mistakes, made on the JAX side, turns it red."""

import jax.numpy as jnp
import pytest
from helpers import check

from jaxnets.models import dense_se_resnet, layers
from jaxnets.models.fire import FireModule
from jaxnets.models.layers import BatchNorm, Conv, Dropout, Flatten

RESNET = ("se_resnet", {"num_channels": 16, "num_blocks": (1, 1, 1)})
DENSE = ("dense_se_resnet", {"depth": 2, "widths": (16, 16, 16)})
FIRE = ("cifar100_v2", {"width": 1 / 8})
PLAIN = ("cifar100_v1", {"width": 1 / 64})


def _set(monkeypatch, cls, **attributes):
    """Every new `cls` has these attributes."""
    init = cls.__init__

    def changed(self, *args, **kwargs):
        init(self, *args, **kwargs)
        for name, value in attributes.items():
            setattr(self, name, value)

    monkeypatch.setattr(cls, "__init__", changed)


def same_padding(monkeypatch):
    _set(monkeypatch, Conv, padding="SAME")


def wrong_epsilon(monkeypatch):
    _set(monkeypatch, BatchNorm, epsilon=1e-3)


def wrong_momentum(monkeypatch):
    _set(monkeypatch, BatchNorm, momentum=0.9)


def biased_variance(monkeypatch):
    moments = layers._moments
    # var n / (n - 1) is var for a vast n.
    monkeypatch.setattr(layers, "_moments", lambda x: (*moments(x)[:2], jnp.asarray(1e30, x.dtype)))


def swapped_expand(monkeypatch):
    def call(self, x):
        s = self.squeeze(x)
        return jnp.concatenate([self.expand3x3(s), self.expand1x1(s)], axis=-1)

    monkeypatch.setattr(FireModule, "__call__", call)


def channel_minor_flatten(monkeypatch):
    monkeypatch.setattr(Flatten, "__call__", lambda self, x: x.reshape(len(x), -1))


def unscaled_dropout(monkeypatch):
    def call(self, x):
        return x if self.deterministic else jnp.where(self.mask(x.shape), x, 0)

    monkeypatch.setattr(Dropout, "__call__", call)


def unshared_kernels(monkeypatch):
    monkeypatch.setattr(dense_se_resnet, "_share_kernel", lambda blocks: None)


MUTATIONS = [
    (same_padding, RESNET, "eval"),
    (wrong_epsilon, RESNET, "eval"),
    (wrong_momentum, RESNET, r"stats\.bn1\.running_mean"),
    (biased_variance, RESNET, r"stats\.bn1\.running_var"),
    (swapped_expand, FIRE, "eval"),
    (channel_minor_flatten, PLAIN, "eval"),
    (unscaled_dropout, PLAIN, "train"),
    (unshared_kernels, DENSE, r"grad\.layer3\.0\.conv2\.weight"),
]
"""The mistake, the network that shows it, and the first value that differs."""


@pytest.mark.parametrize(
    ("mutate", "case", "first"), MUTATIONS, ids=[mutate.__name__ for mutate, *_ in MUTATIONS]
)
def test_mutation_is_caught(monkeypatch, mutate, case, first):
    mutate(monkeypatch)
    name, options = case
    with pytest.raises(AssertionError, match=f"^{first}: relative error"):
        check(name, "float64", gradients=mutate is unshared_kernels, **options)


@pytest.mark.parametrize("case", [RESNET, DENSE, FIRE, PLAIN], ids=lambda case: case[0])
def test_unchanged_passes(case):
    name, options = case
    check(name, "float64", gradients=name == "dense_se_resnet", **options)
