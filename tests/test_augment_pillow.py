"""Every augmentation against Pillow with the same drawn parameters: equal in every pixel."""

from pathlib import Path
from types import SimpleNamespace as Config

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from jaxnets.augment import auto_augment, image_ops
from jaxnets.augment.pipeline import make_augment
from jaxnets.augment.policies import policy_tables
from jaxnets.augment.tables import FACTOR_BITS

DATA = Path(__file__).parent.parent / "data"
N = 96
AREAS_AND_RATIOS = Config(scale=(0.08, 1.0), ratio=(0.6, 1.7))
OPTIONS = {
    "random_resized_crop": AREAS_AND_RATIOS,
    "rotation": Config(degrees=180.0),
    "crop": Config(padding=4),
    "flip": Config(p=0.5),
    "jitter": Config(brightness=0.5, contrast=0.9, saturation=1.5, hue=0.5),
    "erasing": Config(p=0.7, scale=(0.02, 0.33), ratio=(0.3, 3.3)),
}


def pillow_resized_crop(image, params, size):
    top, left, height, width = params["box"].tolist()
    box = image.crop((left, top, left + width, top + height))
    return box.resize(size, Image.Resampling.BILINEAR)


def pillow_rotation(image, params, size):
    return image.rotate(float(params["angle"]), Image.Resampling.NEAREST, fillcolor=(0, 0, 0))


def pillow_crop(image, params, size):
    top, left = params["offset"].tolist()
    padded = ImageOps.expand(image, OPTIONS["crop"].padding, fill=0)
    return padded.crop((left, top, left + size[0], top + size[1]))


def pillow_flip(image, params, size):
    return ImageOps.mirror(image) if params["flipped"] else image


def pillow_hue(image, turn):
    h, s, v = image.convert("HSV").split()
    h = (np.asarray(h).astype(int) + int(turn * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(h.astype(np.uint8)), s, v)).convert("RGB")


def pillow_jitter(image, params, size):
    brightness, contrast, saturation, hue = (
        float(params[name]) / 2**FACTOR_BITS
        for name in ("brightness", "contrast", "saturation", "hue")
    )
    steps = (
        lambda x: ImageEnhance.Brightness(x).enhance(brightness),
        lambda x: ImageEnhance.Contrast(x).enhance(contrast),
        lambda x: ImageEnhance.Color(x).enhance(saturation),
        lambda x: pillow_hue(x, hue),
    )
    for i in params["order"].tolist():
        image = steps[i](image)
    return image


def pillow_erasing(image, params, size):
    top, left, height, width = params["box"].tolist()
    image = image.copy()
    image.paste((0, 0, 0), (left, top, left + width, top + height))
    return image


PILLOW = {
    "random_resized_crop": pillow_resized_crop,
    "rotation": pillow_rotation,
    "crop": pillow_crop,
    "flip": pillow_flip,
    "jitter": pillow_jitter,
    "erasing": pillow_erasing,
}


def pillow_step(image, step):
    """What torchvision's AutoAugment asks of Pillow."""

    def affine(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=(0, 0, 0))

    m = step.magnitude
    return {
        "identity": lambda: image,
        "shear_x": lambda: affine(1, np.tan(np.arctan(m)), 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, np.tan(np.arctan(m)), 1, 0),
        "translate_x": lambda: affine(1, 0, -int(m), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, -int(m)),
        "rotate": lambda: image.rotate(m, fillcolor=(0, 0, 0)),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(1 + m),
        "color": lambda: ImageEnhance.Color(image).enhance(1 + m),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(1 + m),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(1 + m),
        "posterize": lambda: ImageOps.posterize(image, int(m)),
        "solarize": lambda: ImageOps.solarize(image, m),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
    }[step.name]()


def random_images(n, height, width, seed=0):
    """Noise, noise within narrow ranges, few colours, gradients, and single colours."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (n, height, width, 3))
    low = rng.integers(0, 250, (n, 1, 1, 3))
    narrow = low + noise % (256 - low)
    few = 51 * (noise % 6)
    ramp = np.arange(width)[:, None] * 255 // width + noise % 5
    flat = np.broadcast_to(noise[:, :1, :1], noise.shape)
    kinds = np.stack([noise, narrow, few, ramp.clip(0, 255), flat])
    return kinds[np.arange(n) % len(kinds), np.arange(n)].astype(np.uint8)


@pytest.fixture(scope="module")
def cifar_images():
    if not (DATA / "cifar-10-batches-py").is_dir():
        pytest.skip("real CIFAR-10 images are not in data/cifar-10-batches-py")
    from jaxnets.data import load_dataset

    return load_dataset("cifar10", DATA).test_images


@pytest.fixture(params=["random", "oblong", "cifar"])
def images(request):
    """(N, H, W, 3) uint8."""
    if request.param == "cifar":
        return request.getfixturevalue("cifar_images")[:N]
    return random_images(N, *((32, 32) if request.param == "random" else (20, 45)))


def with_pillow(function, images, *per_image):
    pictures = [Image.fromarray(image) for image in images]
    return np.stack([np.asarray(function(*x)) for x in zip(pictures, *per_image, strict=True)])


@pytest.mark.parametrize("op", OPTIONS)
def test_operation_equals_pillow(op, images):
    augment = make_augment(Config(ops=(op,), **OPTIONS))
    n, height, width, _ = images.shape
    u = jax.random.uniform(jax.random.key(1), (n, augment.size), jnp.float32)
    params = augment.draw(u, height, width)
    out = np.asarray(jax.jit(augment.apply)(images, params))
    each = [{name: np.asarray(p)[i] for name, p in params[op].items()} for i in range(n)]
    expected = with_pillow(lambda image, p: PILLOW[op](image, p, (width, height)), images, each)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, expected)
    assert (expected != images).any()


def test_a_whole_pipeline_equals_pillow(images):
    augment = make_augment(Config(ops=tuple(OPTIONS), **OPTIONS))
    n, height, width, _ = images.shape
    key = jax.random.key(2)
    out = jax.jit(augment)(key, images)
    u = jax.random.uniform(key, (n, augment.size), jnp.float32)
    params = jax.tree.map(np.asarray, augment.draw(u, height, width))

    def pillow(image, i):
        for op in OPTIONS:
            each = {name: p[i] for name, p in params[op].items()}
            image = PILLOW[op](image, each, (width, height))
        return image

    np.testing.assert_array_equal(out, with_pillow(pillow, images, range(n)))


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_every_step_of_auto_augment_equals_pillow(policy, images):
    tables = policy_tables(policy, *images.shape[1:3])
    rows = np.random.default_rng(0).permutation(2 * len(tables.steps)) % len(tables.steps)
    images = np.resize(images, (len(rows), *images.shape[1:]))
    nothing = np.full_like(rows, len(tables.steps) - 1)
    run = jax.jit(lambda x, rows: auto_augment.apply(x, rows, policy))
    out = np.asarray(run(images, jnp.asarray(np.stack([rows, nothing], 1), jnp.int32)))
    steps = [tables.steps[row] for row in rows]
    expected = with_pillow(pillow_step, images, steps)
    different = {steps[i] for i in np.flatnonzero((out != expected).any((1, 2, 3)))}
    assert not different


def test_auto_augment_applies_both_steps_in_order(images):
    tables = policy_tables("cifar10", *images.shape[1:3])
    rows = np.random.default_rng(0).integers(0, len(tables.steps), (len(images), 2))
    out = auto_augment.apply(jnp.asarray(images), jnp.asarray(rows, jnp.int32), "cifar10")
    first = [tables.steps[row] for row in rows[:, 0]]
    second = [tables.steps[row] for row in rows[:, 1]]
    expected = with_pillow(
        lambda image, a, b: pillow_step(pillow_step(image, a), b), images, first, second
    )
    np.testing.assert_array_equal(out, expected)


def test_hue_of_all_kinds_of_colour_equals_pillow():
    """All hues of all chromas, at two values each: among them every tie of the rounding."""
    top, low = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    middle = (low + np.maximum(top - low, 0) * np.arange(64)[:, None, None] / 63).astype(int)
    top, low = (np.broadcast_to(x, middle.shape) for x in (np.maximum(top, low), low))
    orders = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    colours = np.stack([top, middle, low], -1)[::8]
    images = np.concatenate([colours[..., order] for order in orders]).astype(np.uint8)
    shift = np.arange(len(images), dtype=np.int32) * 5
    out = np.asarray(jax.jit(image_ops.shift_hue)(images, shift))
    for image, turn, result in zip(images, shift, out, strict=True):
        h, s, v = Image.fromarray(image).convert("HSV").split()
        h = Image.fromarray(((np.asarray(h).astype(int) + turn) % 256).astype(np.uint8))
        expected = np.asarray(Image.merge("HSV", (h, s, v)).convert("RGB"))
        np.testing.assert_array_equal(result, expected)


def test_autocontrast_equals_pillow_for_every_range():
    """One image for each pair of least and greatest value, with every value in between."""
    low, high = (x.ravel() for x in np.meshgrid(np.arange(256), np.arange(256)))
    low, high = low[low <= high][::5], high[low <= high][::5]
    values = np.clip(np.arange(256), low[:, None], high[:, None]).astype(np.uint8)
    images = np.broadcast_to(values.reshape(-1, 16, 16, 1), (len(values), 16, 16, 3))
    tables = np.asarray(jax.jit(image_ops.autocontrast_lookup)(images))[:, 0]
    out = np.take_along_axis(tables, values.astype(int), 1)
    expected = [np.asarray(ImageOps.autocontrast(Image.fromarray(v[None])))[0] for v in values]
    np.testing.assert_array_equal(out, np.stack(expected))


def test_smooth_equals_pillow(images):
    out = np.asarray(image_ops.smooth(jnp.asarray(images)))
    expected = with_pillow(lambda image: image.filter(ImageFilter.SMOOTH), images)
    np.testing.assert_array_equal(out, expected)
