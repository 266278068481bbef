"""The whitening first layer in both frameworks: its kernel, and the training above it."""

import numpy as np
import pytest
import torch
from helpers import few_digits, little_effort

import jaxnets.train.task
import torch_ref.task
from jaxnets import config as configs
from jaxnets.data.whitening import whitening_kernel
from jaxnets.models.torch_names import to_state_dict
from jaxnets.parity import trainings as parity
from tests.conftest import command, refused  # noqa: F401 - fixtures
from torch_ref.augment import normalize
from torch_ref.whitening import whitening_kernel as in_torch

MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)
WHITENED = [
    *("--config.model.whiten=True", "--config.optim.freeze=whiten", "--config.dtype=float64"),
    *("--config.batch_size=6", "--config.num_epochs=4", "--config.model.drop=0"),
]


def images(count: int) -> np.ndarray:
    """Noise whose neighbouring pixels and channels go together."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 160, (count, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    grey = rng.uniform(0, 60, (count, 16, 16, 1))
    return (coarse + grey + rng.uniform(0, 35, (count, 16, 16, 3))).astype(np.uint8)


def test_kernels_are_the_same_and_whiten():
    some = images(700)
    kernel = whitening_kernel(some, MEAN, STD)
    twin = in_torch(torch.tensor(some), MEAN, STD)
    np.testing.assert_allclose(kernel.transpose(3, 2, 0, 1), twin, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    x = normalize(torch.tensor(some), MEAN, STD, torch.float64).permute(0, 3, 1, 2)
    out = torch.nn.functional.conv2d(x, twin[:12]).permute(1, 0, 2, 3).reshape(12, -1)
    found = (out @ out.T / out.shape[1]).numpy()
    np.testing.assert_allclose(found, np.diag(np.diag(found)), atol=1e-9)
    assert (np.diff(np.diag(found)) < 1e-12).all()  # the largest variance comes first
    assert 0.98 < np.diag(found).min() < np.diag(found).max() < 1


def test_only_the_first_images_count():
    some = np.concatenate([images(8)] * 626)  # 5,008 of them
    others = np.concatenate([some[:5000], 255 - some[5000:]])
    np.testing.assert_array_equal(*(whitening_kernel(x, MEAN, STD) for x in (some, others)))


def test_directions_that_no_patch_has_stay_zero():
    """Of grey images under one normalisation of all channels there are four."""
    grey = few_digits(20).train_images
    same = (0.31,) * 3, (0.36,) * 3
    kernel = whitening_kernel(grey, *same).transpose(3, 2, 0, 1)
    np.testing.assert_allclose(kernel, in_torch(torch.tensor(grey), *same), rtol=0, atol=1e-9)
    assert (np.abs(kernel[:12]).sum((1, 2, 3)) > 0).tolist() == [True] * 4 + [False] * 8


def test_twenty_steps_above_the_frozen_layer(monkeypatch):
    """That both trainers fill by themselves, from the same training images."""
    rng = np.random.default_rng(1)
    few = few_digits(30, 6)
    colours = rng.integers(0, 120, few.train_images.shape, dtype=np.uint8)
    few = few._replace(train_images=few.train_images // 2 + colours)
    config = configs.read("tests/tiny_config.py", WHITENED)
    with little_effort():
        run, twin = jaxnets.train.task.build(config, few), torch_ref.task.build(config, few)
        expected = whitening_kernel(few.train_images, config.data.mean, config.data.std)
        np.testing.assert_array_equal(run.state.params["whiten.0.kernel"], expected)
        names = to_state_dict(run.task.network.merge(run.state.params, run.state.stats))
        assert names.keys() == twin.net.state_dict().keys()
        theirs = twin.net.whiten[0].weight
        np.testing.assert_allclose(names["whiten.0.weight"], theirs.detach(), rtol=0, atol=1e-9)
        assert not theirs.requires_grad
        monkeypatch.setattr(parity, "build", lambda _: run)
        rows = parity.compare(config, 20)
    assert max(max(row.parameters, row.statistics) for row in rows) < 1e-10
    assert rows[-1].parameters > 0  # two computations, not one


@pytest.mark.parametrize("trainer", ["jaxnets.train", "torch_ref.train"])
def test_a_network_without_one_says_so(trainer, tmp_path, refused):  # noqa: F811
    args = ("--config", "resnet18", "--config.model.whiten=True", "--workdir", tmp_path / "x")
    assert "unknown key --config.model.whiten" in refused(trainer, *args)
    args = ("--config", "se_resnet_fast", "--config.model.whiten=3", "--workdir", tmp_path / "x")
    assert "whiten" in refused(trainer, *args)
