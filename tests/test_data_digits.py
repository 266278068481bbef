"""The digits of scikit-learn as a data set."""

import numpy as np
from sklearn.datasets import load_digits as sklearn_digits

from jaxnets.data import load_dataset


def test_shapes_and_a_stratified_split():
    data = load_dataset("digits")
    assert data.train_images.shape == (1438, 32, 32, 3)
    assert data.test_images.shape == (359, 32, 32, 3)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int32
    assert data.class_names == tuple("0123456789")
    total = np.bincount(np.concatenate([data.train_labels, data.test_labels]))
    np.testing.assert_allclose(np.bincount(data.test_labels) / total, 0.2, atol=0.005)


def test_every_digit_is_in_one_split_and_is_drawn_as_it_was():
    data = load_dataset("digits")
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert images.max() == 255
    assert (images == images[..., :1]).all()
    cells = images[..., 0].reshape(-1, 8, 4, 8, 4)
    assert (cells == cells[:, :, :1, :, :1]).all()
    small = np.rint(cells[:, :, 0, :, 0] * (16 / 255)).astype(int).reshape(len(images), -1)
    ours = np.column_stack([small, labels])
    digits = sklearn_digits()
    theirs = np.column_stack([digits.data.astype(int), digits.target])
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_the_split_is_fixed():
    first, second = load_dataset("digits"), load_dataset("digits")
    np.testing.assert_array_equal(first.test_images, second.test_images)
    assert first.test_images.sum() == 85282128
    np.testing.assert_array_equal(first.test_labels[:12], [3, 7, 3, 9, 0, 8, 7, 0, 8, 0, 3, 3])
