"""torch_ref's augmentation against jaxnets': the same numbers, parameters, images, to the bit."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Config

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnets.augment import pipeline as jax_augment
from jaxnets.augment import policies
from torch_ref import augment as torch_augment
from torch_ref import threefry

OPTIONS = {
    "random_resized_crop": Config(scale=(0.95, 1.0), ratio=(0.9, 1.1)),
    "rotation": Config(degrees=10.0),
    "crop": Config(padding=2),
    "flip": Config(p=0.5),
    "jitter": Config(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
    "erasing": Config(p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3)),
    "auto_augment": Config(policy="cifar10"),
}
PIPELINES = {
    "se_resnet": ("random_resized_crop", "rotation", "crop", "flip", "jitter"),
    "mish_se_resnet18:as_run": ("crop", "flip", "auto_augment", "erasing"),
    "none": (),
}


def config(name):
    return Config(ops=PIPELINES[name], **OPTIONS)


uint32 = st.integers(0, 2**32 - 1)


drawn = {"seed": uint32, "data": uint32, "shape": st.sampled_from([(), (0,), (3,), (80, 62)])}


@settings(max_examples=50)
@given(**drawn)
def test_threefry_is_jaxs(seed, data, shape):
    same_numbers(seed, data, shape)


@pytest.mark.slow
@settings(max_examples=5000)
@given(**drawn)
def test_threefry_is_jaxs_for_many(seed, data, shape):
    same_numbers(seed, data, shape)


def same_numbers(seed, data, shape):
    theirs = jax.random.key(seed, impl="threefry2x32")
    ours = threefry.key(seed)
    np.testing.assert_array_equal(ours, jax.random.key_data(theirs))
    theirs, ours = jax.random.fold_in(theirs, data), threefry.fold_in(ours, data)
    np.testing.assert_array_equal(ours, jax.random.key_data(theirs))
    numbers = threefry.uniform(ours, shape)
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, jax.random.uniform(theirs, shape, jnp.float32))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_threefry_refuses_other_seeds(seed):
    with pytest.raises(ValueError, match="seed"):
        threefry.key(seed)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("se_resnet", (32, 32)),
        ("se_resnet", (20, 45)),
        ("mish_se_resnet18:as_run", (20, 45)),
        ("none", (32, 32)),
    ],
)
def test_same_seed_and_step_give_the_same_images(name, size):
    ours, twin = jax_augment.make_augment(config(name)), torch_augment.make_augment(config(name))
    assert ours.size == twin.size
    rng = np.random.default_rng(0)
    run = jax.jit(lambda step, x: ours(jax_augment.augment_key(7, step), x))
    draw = jax.jit(ours.draw, static_argnums=(1, 2))
    for step in (0, 391 * 200):
        low = rng.integers(0, 256, (64, 1, 1, 3))
        images = (low + rng.integers(0, 256, (64, *size, 3)) % (256 - low)).astype(np.uint8)
        key = torch_augment.augment_key(7, step)
        u = threefry.uniform(key, (len(images), twin.size))
        params = draw(u, *size)
        twins = twin.draw(torch.from_numpy(u), *size)
        for path, value in jax.tree.leaves_with_path(params):
            op, parameter = (part.key for part in path)
            np.testing.assert_array_equal(value, twins[op].pop(parameter))
        assert not any(twins.values())
        out = twin(key, torch.from_numpy(images))
        assert out.dtype == torch.uint8
        np.testing.assert_array_equal(run(step, images), out)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_every_step_of_auto_augment(policy):
    rows = len(policies.policy_tables(policy, 32, 32).steps)
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3))
    images = np.repeat((40 + image // 2).astype(np.uint8), rows, 0)
    options = Config(ops=("auto_augment",), auto_augment=Config(policy=policy))
    params = np.stack([np.arange(rows), np.arange(rows)[::-1]], 1)
    ours = jax.jit(jax_augment.make_augment(options).apply)(
        images, {"auto_augment": {"rows": jnp.asarray(params, jnp.int32)}}
    )
    twin = torch_augment.make_augment(options).apply(
        torch.from_numpy(images), {"auto_augment": {"rows": torch.from_numpy(params)}}
    )
    np.testing.assert_array_equal(ours, twin)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_normalize(dtype):
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    ours = jax.jit(lambda x: jax_augment.normalize(x, mean, std, getattr(jnp, dtype)))(images)
    twin = torch_augment.normalize(torch.from_numpy(images), mean, std, getattr(torch, dtype))
    assert ours.dtype == dtype
    np.testing.assert_array_equal(np.float64(ours), twin.double())


@pytest.mark.parametrize(
    ("name", "end"),
    [("shear_x", 0.3), ("translate_x", 150 / 331 * 32), ("rotate", 30), ("color", 0.9)],
)
def test_magnitudes_are_torchs(name, end):
    magnitudes = policies._magnitudes(name, 32)
    np.testing.assert_allclose(magnitudes, torch.linspace(0, end, 10), rtol=2e-7)


def test_bad_options_are_value_errors():
    with pytest.raises(ValueError, match=r"augment\.flip\.p"):
        torch_augment.make_augment(Config(ops=("flip",), flip=Config(p=2)))


def test_the_twin_does_not_import_jax():
    code = "import sys, torch_ref.augment; sys.exit('jax' in sys.modules)"
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
