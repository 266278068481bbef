"""The validation split: stratified, fixed by the seed, of every data set."""

import numpy as np
import pytest

from jaxnets import config as configs
from jaxnets.data import Dataset, load, load_dataset, split_validation
from jaxnets.errors import UserError


def dataset(*counts: int) -> Dataset:
    """`counts` training images a class, image i full of the value i."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    values = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(values, (len(labels), 2, 2, 3))
    names = tuple(f"class {i}" for i in range(len(counts)))
    test = np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, np.int32)
    return Dataset(images, labels.astype(np.int32), *test, names, "made up")


def test_every_image_is_in_one_split_with_its_label_and_in_order():
    whole = dataset(40, 25, 60)
    data = split_validation(whole, 0.2, seed=3)
    parts = (data.train_images, data.train_labels), (data.val_images, data.val_labels)
    kept, moved = (images[:, 0, 0, 0] for images, _ in parts)
    assert sorted([*kept, *moved]) == list(range(125))
    assert not set(kept) & set(moved)
    for (images, labels), values in zip(parts, (kept, moved), strict=True):
        assert (np.diff(values.astype(int)) > 0).all()
        np.testing.assert_array_equal(labels, whole.train_labels[values])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    assert data.test_images is whole.test_images
    assert data.class_names == whole.class_names


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ((40, 25, 60), 0.2, [8, 5, 12]),
        ((100, 10), 0.01, [1, 1]),
        ((100, 10), 0.99, [99, 9]),
        ((2, 2), 0.5, [1, 1]),
    ],
)
def test_the_share_of_every_class(counts, fraction, expected):
    data = split_validation(dataset(*counts), fraction, seed=0)
    assert np.bincount(data.val_labels).tolist() == expected
    assert (np.bincount(data.train_labels) == np.subtract(counts, expected)).all()


def test_the_seed_alone_decides():
    def chosen(seed, *counts):
        return split_validation(dataset(*counts), 0.2, seed).val_images[:, 0, 0, 0].tolist()

    assert chosen(0, 40, 25) == chosen(0, 40, 25)
    assert chosen(0, 40, 25) != chosen(1, 40, 25)
    assert len({tuple(chosen(seed, 20, 20)) for seed in range(20)}) == 20
    # Frozen: another choice would let old runs validate on what they were trained on.
    assert chosen(0, 10, 10) == [8, 12, 18, 19]


@pytest.mark.parametrize(("counts", "has"), [((40, 1), "class 1"), ((0, 5), "class 0")])
def test_a_class_too_small_is_named(counts, has):
    with pytest.raises(UserError, match=rf"val_fraction=0.2: class '{has}' has \d training"):
        split_validation(dataset(*counts), 0.2, seed=0)


def test_load_splits_as_the_configuration_says():
    config = configs.default_config()
    config.data.name = "digits"
    whole = load_dataset("digits")
    assert load(config).val_images is None
    config.data.val_fraction = 0.1
    data = load(config)
    assert (len(data.train_images), len(data.val_images)) == (1295, 143)
    share = np.bincount(data.val_labels) / np.bincount(whole.train_labels)
    np.testing.assert_allclose(share, 0.1, atol=0.005)
    assert load(config, split=False).val_images is None
    config.seed = 1
    assert not np.array_equal(load(config).val_images, data.val_images)
