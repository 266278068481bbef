"""The augmentations' random numbers, configuration, key and normalisation."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace as Config

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.augment.options import ATTEMPTS
from jaxnets.augment.pipeline import augment_key, make_augment, normalize
from jaxnets.augment.policies import PAIRS, policy_tables
from jaxnets.augment.tables import FACTOR_BITS, LEVELS
from jaxnets.errors import UserError

ROOT = Path(__file__).parent.parent
N = 20_000


def config(*ops, **changes):
    values = {
        "random_resized_crop": Config(scale=(0.95, 1.0), ratio=(0.9, 1.1)),
        "rotation": Config(degrees=10.0),
        "crop": Config(padding=2),
        "flip": Config(p=0.5),
        "jitter": Config(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.1),
        "erasing": Config(p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3)),
        "auto_augment": Config(policy="cifar10"),
    }
    return Config(ops=ops, **(values | changes))


def draw(op, n=N, size=(32, 32), **options):
    """The parameters of one operation as numpy arrays, and the uniforms they come from."""
    augment = make_augment(config(op, **({op: Config(**options)} if options else {})))
    u = jax.random.uniform(jax.random.key(3), (n, augment.size), jnp.float32)
    params = jax.jit(augment.draw, static_argnums=(1, 2))(u, *size)
    return {name: np.asarray(p) for name, p in params[op].items()}, np.asarray(u)


def assert_uniform(values, cells):
    """Pearson's chi square of integers 0..cells - 1 is within 5 standard deviations of its mean."""
    counts = np.bincount(values, minlength=cells)
    assert len(counts) == cells
    expected = len(values) / cells
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - (cells - 1)) < 5 * math.sqrt(2 * (cells - 1))


def assert_frequency(hits, p):
    assert abs(hits.mean() - p) <= 5 * math.sqrt(p * (1 - p) / hits.size)


def test_crop_offsets_are_uniform():
    offset = draw("crop", padding=4)[0]["offset"]
    assert_uniform(offset[:, 0] * 9 + offset[:, 1], 81)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_flip_frequency(p):
    assert_frequency(draw("flip", p=p)[0]["flipped"], p)


def test_rotation_angles_are_uniform():
    angle = draw("rotation", degrees=10.0)[0]["angle"]
    assert_uniform(((angle + 10) / 20 * 25).astype(int), 25)


def test_jitter_orders_and_factors_are_uniform():
    params, _ = draw("jitter", brightness=0.1, contrast=0.2, saturation=1.5, hue=0.1)
    orders, which = np.unique(params["order"], axis=0, return_inverse=True)
    assert sorted(map(tuple, orders.tolist())) == list(itertools.permutations(range(4)))
    assert_uniform(which.ravel(), 24)
    for name, low, high in (
        ("brightness", 0.9, 1.1),
        ("contrast", 0.8, 1.2),
        ("saturation", 0.0, 2.5),
        ("hue", -0.1, 0.1),
    ):
        value = params[name] / 2**FACTOR_BITS
        assert_uniform(((value - low + 1e-4) / (high - low + 2e-4) * 20).astype(int), 20)


def attempts(u, scale, ratio, height, width):
    """torchvision's rectangles of one image: (sqrt(area * ratio), sqrt(area / ratio)), rounded."""
    for a, r in zip(u[:ATTEMPTS], u[ATTEMPTS:], strict=True):
        share, log = ((math.floor(float(x) * LEVELS) + 0.5) / LEVELS for x in (a, r))
        area = height * width * (scale[0] + (scale[1] - scale[0]) * share)
        low, high = (math.log(x) for x in ratio)
        aspect = math.exp(low + (high - low) * log)
        yield round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))


def reference_resized_crop(u, scale, ratio, height, width):
    for w, h in attempts(u[:-2], scale, ratio, height, width):
        if 0 < w <= width and 0 < h <= height:
            return [int(u[-2] * (height - h + 1)), int(u[-1] * (width - w + 1)), h, w]
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


def reference_erasing(u, p, scale, ratio, height, width):
    if u[0] >= p:
        return [0, 0, 0, 0]
    for h, w in attempts(u[1:-2], scale, ratio, height, width):
        if h < height and w < width:
            return [int(u[-2] * (height - h + 1)), int(u[-1] * (width - w + 1)), h, w]
    return [0, 0, 0, 0]


@pytest.mark.parametrize("size", [(32, 32), (24, 50)])
@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.95, 1.0), (0.9, 1.1)), ((0.08, 1.0), (0.75, 4 / 3)), ((0.9, 1.0), (1.5, 3.0))],
)
def test_resized_crop_boxes_are_torchvisions(scale, ratio, size):
    params, u = draw("random_resized_crop", n=500, size=size, scale=scale, ratio=ratio)
    expected = [reference_resized_crop(row, scale, ratio, *size) for row in u]
    np.testing.assert_array_equal(params["box"], expected)


@pytest.mark.parametrize("size", [(32, 32), (24, 50)])
@pytest.mark.parametrize("scale", [(0.02, 0.33), (0.8, 1.0)])
def test_erased_boxes_are_torchvisions(scale, size):
    params, u = draw("erasing", n=500, size=size, p=0.7, scale=scale, ratio=(0.3, 3.3))
    expected = [reference_erasing(row, 0.7, scale, (0.3, 3.3), *size) for row in u]
    np.testing.assert_array_equal(params["box"], expected)


def test_resized_crop_distribution():
    box = draw("random_resized_crop", scale=(0.25, 1.0), ratio=(0.5, 2.0), size=(64, 64))[0]["box"]
    top, left, height, width = box.T
    assert (np.minimum(top, left) >= 0).all()
    assert (np.maximum(top + height, left + width) <= 64).all()
    small = (height * width / 64**2) < 0.5  # always fit, so that their areas stay uniform
    assert_uniform(((height * width / 64**2)[small] > 0.375).astype(int), 2)
    wide, tall = np.log(width / height) > 0.02, np.log(width / height) < -0.02
    assert_uniform(wide[wide | tall].astype(int), 2)
    square = (height == 48) & (width == 48)
    assert_uniform((top * 17 + left)[square], 17 * 17)


def test_erasing_frequency_and_area():
    box = draw("erasing", p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3))[0]["box"]
    area = box[:, 2] * box[:, 3] / 32**2
    assert_frequency(area > 0, 0.5)
    assert area[area > 0].min() > 0.015
    assert area.max() < 0.35


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_auto_augment_draws_every_pair_with_its_probabilities(policy):
    n = 4 * N
    params, u = draw("auto_augment", n=n, policy=policy)
    tables = policy_tables(policy, 32, 32)
    pair = (u[:, 0] * PAIRS).astype(int)
    assert_uniform(pair, PAIRS)
    nothing = len(tables.steps) - 1
    for place in (0, 1):
        row = params["rows"][:, place]
        applied = row < nothing
        assert (row[applied] // 4 == pair[applied]).all()
        assert (row[applied] // 2 % 2 == place).all()
        assert_uniform(row[applied] % 2, 2)
        for i in range(PAIRS):
            assert_frequency(applied[pair == i], tables.probability[i, place])


def test_policies_use_the_operations_and_magnitudes_of_the_paper():
    cifar10, imagenet = (policy_tables(policy, 32, 32) for policy in ("cifar10", "imagenet"))
    assert {step.name for step in cifar10.steps} - {step.name for step in imagenet.steps} == {
        "brightness",
        "shear_y",
        "translate_x",
        "translate_y",
    }
    assert [step.name for step in cifar10.steps[12:16]] == ["shear_y"] * 2 + ["translate_y"] * 2
    magnitudes = [step.magnitude for step in cifar10.steps[12:16]]
    np.testing.assert_allclose(magnitudes, [-0.8 / 3, 0.8 / 3, -14.5015, 14.5015], rtol=1e-4)
    np.testing.assert_allclose(cifar10.probability[3], [0.5, 0.7])
    assert imagenet.steps[0].magnitude == 4  # posterize 8 keeps four bits
    assert imagenet.steps[2].magnitude == -30


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (
            config("crop", "flop"),
            ["config.augment.ops", "'flop'", "did you mean 'flip'", "rotation"],
        ),
        (config("flip", "flip"), ["config.augment.ops", "twice"]),
        (Config(ops="flip"), ["config.augment.ops", "'flip'"]),
        (Config(ops=("flip",)), ["config.augment.flip.p", "missing"]),
        (
            config("crop", crop=Config(padding=-1)),
            ["config.augment.crop.padding", "-1", "at most 1024"],
        ),
        (config("crop", crop=Config(padding=2.5)), ["config.augment.crop.padding", "2.5"]),
        (config("flip", flip=Config(p=1.5)), ["config.augment.flip.p", "1.5", "[0, 1]"]),
        (config("flip", flip=Config(p=math.nan)), ["config.augment.flip.p", "nan"]),
        (
            config("rotation", rotation=Config(degrees=-5)),
            ["config.augment.rotation.degrees", "[0, 180]"],
        ),
        (
            config("random_resized_crop", random_resized_crop=Config(scale=(1, 0.9), ratio=(1, 1))),
            ["config.augment.random_resized_crop.scale", "(1, 0.9)", "low <= high <= 1"],
        ),
        (
            config("erasing", erasing=Config(p=0.5, scale=(0.1, 0.3), ratio=3.3)),
            ["config.augment.erasing.ratio", "3.3"],
        ),
        (
            config("jitter", jitter=Config(brightness=0.1, contrast=0, saturation=0, hue=0.6)),
            ["config.augment.jitter.hue", "0.6", "[0, 0.5]"],
        ),
        (
            config("jitter", jitter=Config(brightness="a", contrast=0, saturation=0, hue=0)),
            ["config.augment.jitter.brightness", "'a'"],
        ),
        (
            config("auto_augment", auto_augment=Config(policy="svhn")),
            ["config.augment.auto_augment.policy", "'svhn'", "cifar10, imagenet"],
        ),
    ],
)
def test_bad_values_name_the_key_and_what_is_allowed(bad, named):
    with pytest.raises(UserError) as error:
        make_augment(bad)
    for part in named:
        assert part in str(error.value)


def test_options_of_unused_operations_are_not_read():
    assert make_augment(Config(ops=("flip",), flip=Config(p=0.5))).size == 1


def test_no_operations_leave_images_as_they_are():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    augment = make_augment(config())
    np.testing.assert_array_equal(augment(augment_key(0, 0), images), images)


def test_colour_is_untouched_by_a_jitter_of_zero():
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    off = Config(brightness=0, contrast=0, saturation=0, hue=0)
    augment = make_augment(config("jitter", jitter=off))
    np.testing.assert_array_equal(augment(augment_key(0, 0), images), images)


def test_the_key_depends_on_seed_and_step_alone():
    keys = {
        (seed, step): tuple(jax.random.key_data(augment_key(seed, step)).tolist())
        for seed in (0, 1, 2**32 - 1)
        for step in (0, 1, 70_000)
    }
    assert len(set(keys.values())) == len(keys)
    traced = jax.jit(augment_key)(jnp.uint32(1), jnp.int32(70_000))
    assert tuple(jax.random.key_data(traced).tolist()) == keys[1, 70_000]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_normalize(dtype):
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    out = jax.jit(lambda x: normalize(x, mean, std, dtype))(images)
    assert out.dtype == dtype
    expected = (images / 255 - np.array(mean)) / np.array(std)
    tolerance = 4e-7 if dtype == jnp.float32 else 8e-3
    np.testing.assert_allclose(np.float64(out), expected, rtol=tolerance, atol=tolerance)


SHARDED = """
import numpy as np, jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from jaxnets.augment.pipeline import augment_key, make_augment

augment = make_augment(ConfigDict(dict(
    ops=("random_resized_crop", "rotation", "crop", "flip", "jitter", "erasing", "auto_augment"),
    random_resized_crop=dict(scale=(.95, 1.), ratio=(.9, 1.1)), rotation=dict(degrees=10.),
    crop=dict(padding=2), flip=dict(p=.5), auto_augment=dict(policy="cifar10"),
    jitter=dict(brightness=.1, contrast=.1, saturation=.1, hue=.1),
    erasing=dict(p=.5, scale=(.02, .33), ratio=(.3, 3.3)),
)))
images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
run = jax.jit(augment)
alone = np.asarray(run(augment_key(0, 5), images))
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("data"))
shared = jax.jit(augment, out_shardings=sharding)
code = shared.lower(augment_key(0, 5), jax.device_put(images, sharding)).compile()
sharded = code(augment_key(0, 5), jax.device_put(images, sharding))
assert sharded.sharding.is_equivalent_to(sharding, 4)
np.testing.assert_array_equal(sharded, alone)
talk = [word for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute")
        if word in code.as_text()]
assert not talk, talk
"""


def test_sharded_batches_give_the_same_images_without_communication():
    flags = "--xla_force_host_platform_device_count=4"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SHARDED]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
