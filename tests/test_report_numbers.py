"""Every number of a report, against a hand's, or another way to reckon it."""

import functools
import itertools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.augment.pipeline import augment_key, make_augment, normalize
from jaxnets.augment.samples import augmented, one_of_each, read_samples
from jaxnets.data.batches import epoch_order
from jaxnets.devices.layout import make_layout
from jaxnets.inference.scores import (
    bin_of,
    calibration,
    confusion_matrix,
    log_softmax,
    loss,
    normalise_rows,
)
from jaxnets.report.figure import label
from jaxnets.report.sections.curves import ACCURACY, LOSS, best, curves_data
from jaxnets.report.sections.distribution import class_counts
from jaxnets.report.sections.mistakes import (
    Pair,
    confused_pairs,
    examples,
    most_confident,
    worst_calibrated,
)
from jaxnets.train import step as training


def two_classes(confidences, right):
    """Probabilities and labels (N,) of images said to be class 0."""
    p = np.array(confidences)
    return np.stack([p, 1 - p], 1), np.where(right, 0, 1)


def test_softmax_and_cross_entropy():
    logits = np.array([[0.0, math.log(3)], [2000.0, 0.0]])
    logs = log_softmax(logits)
    np.testing.assert_allclose(np.exp(logs), [[0.25, 0.75], [1, 0]], rtol=1e-15)
    assert loss(logs, np.array([0, 0])) == pytest.approx(math.log(4) / 2)
    assert loss(logs, np.array([1, 1])) == pytest.approx((math.log(4 / 3) + 2000) / 2)


def test_calibration_by_hand():
    # Bins of a fifth: one image in (0.4, 0.6], two in (0.6, 0.8], two in (0.8, 1].
    p, labels = two_classes([0.55, 0.7, 0.8, 0.9, 1.0], [False, True, False, True, True])
    found = calibration(p, labels, bins=5)
    gaps = [abs(0 - 0.55), abs(0.5 - 0.75), abs(1 - 0.95)]
    assert found["ece"] == pytest.approx((1 * gaps[0] + 2 * gaps[1] + 2 * gaps[2]) / 5)
    assert found["mce"] == pytest.approx(0.55)
    assert (found["accuracy"], found["n"]) == (0.6, 5)
    assert found["confidence"] == pytest.approx(3.95 / 5)
    assert [b["count"] for b in found["bins"]] == [0, 0, 1, 2, 2]
    assert found["bins"][0]["accuracy"] is found["bins"][0]["confidence"] is None
    assert found["bins"][3] == {
        "low": 0.6, "high": 0.8, "count": 2, "accuracy": 0.5, "confidence": pytest.approx(0.75),
    }  # fmt: skip


def test_calibration_another_way():
    """Masks over (low, high] as the formula is written, instead of a search for each bin."""
    rng = np.random.default_rng(0)
    p = np.exp(log_softmax(rng.normal(size=(500, 10)) * 3))
    labels = np.where(rng.random(500) < 0.6, p.argmax(1), rng.integers(0, 10, 500))
    confidence, right = p.max(1), p.argmax(1) == labels
    for bins in (1, 10, 15):
        ece = 0.0
        for low, high in itertools.pairwise(np.linspace(0, 1, bins + 1)):
            inside = (confidence > low) & (confidence <= high)
            if inside.any():
                ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        found = calibration(p, labels, bins)
        assert found["ece"] == pytest.approx(ece, rel=1e-12)
        assert sum(b["count"] for b in found["bins"]) == 500


def test_bins_own_their_upper_edge():
    edges = np.linspace(0, 1, 16)
    assert bin_of(edges[1:]).tolist() == list(range(15))
    assert bin_of(np.nextafter(edges[1:-1], 1)).tolist() == list(range(1, 15))
    assert bin_of(np.array([0.0, 1 + 1e-12])).tolist() == [0, 14]


def test_normalised_rows():
    rows = normalise_rows([[3, 1], [0, 0]])
    assert rows.tolist() == [[0.75, 0.25], [0, 0]]


def test_confused_pairs():
    #                    predicted: 0  1  2
    matrix = confusion_matrix(
        [0] * 9 + [1] * 4 + [2] * 6, [0] * 6 + [1] * 3 + [1, 1, 2, 2] + [0, 0, 1, 1, 1, 2], 3
    )
    assert confused_pairs(matrix) == [
        Pair(2, 1, 3, 0.5),
        Pair(0, 1, 3, pytest.approx(1 / 3)),
        Pair(1, 2, 2, 0.5),
        Pair(2, 0, 2, pytest.approx(1 / 3)),
    ]
    assert confused_pairs(matrix, most=1) == [Pair(2, 1, 3, 0.5)]
    assert confused_pairs(np.eye(3, dtype=int)) == []
    assert class_counts(matrix) == ([9, 4, 6], [8, 8, 3])


def test_which_mistakes_are_shown():
    p, labels = two_classes(
        [0.95, 0.62, 0.97, 0.61, 0.7, 0.99, 0.99], [False, False, False, True, True, True, True]
    )
    assert most_confident(p, labels).tolist() == [2, 0, 1]
    assert most_confident(p, labels, most=1).tolist() == [2]
    assert examples(p, labels, Pair(1, 0, 3, 1.0), most=2).tolist() == [2, 0]
    # Above 0.8 the excess is 4 (0.975 - 0.5) = 1.9, between 0.6 and 0.8 it is 3 (0.643 - 0.667).
    assert worst_calibrated(p, labels, calibration(p, labels, 5)).tolist() == [2, 0, 1]
    # With many right ones above it is 64 (0.989 - 0.969) = 1.3 there; all wrong below, 1.9 there.
    p = np.concatenate([p, np.tile([[0.99, 0.01]], (60, 1))])
    labels = np.concatenate([labels, np.zeros(60, int)])
    labels[3:5] = 1
    assert worst_calibrated(p, labels, calibration(p, labels, 5)).tolist() == [4, 1, 3, 2, 0]
    assert worst_calibrated(p, labels, calibration(p, labels, 5), most=2).tolist() == [4, 1]


def test_the_worst_calibrated_bin_is_weighed_by_its_images():
    # One image with a gap of 0.55, against twenty with one of 0.15.
    p, labels = two_classes([0.55] + [0.9] * 20, [False] + [False] * 5 + [True] * 15)
    found = worst_calibrated(p, labels, calibration(p, labels, 5))
    assert found.tolist() == [1, 2, 3, 4, 5, 0]


def test_the_best_epoch_is_that_of_the_validation_split():
    rows = [
        {"epoch": 1, "eval/accuracy": 0.7, "train/loss": 1.0},
        {"epoch": 2, "eval/accuracy": 0.9, "train/loss": 0.5},
    ]
    assert best(rows) == (2, 0.9, "eval/accuracy")
    assert curves_data({"a": rows}, [LOSS, ACCURACY]) == {
        "a": {
            "train/loss": {"epochs": [1, 2], "values": [1.0, 0.5]},
            "eval/accuracy": {"epochs": [1, 2], "values": [0.7, 0.9]},
        }
    }
    rows = [row | {"val/accuracy": v} for row, v in zip(rows, (0.8, 0.6), strict=True)]
    assert best(rows) == (1, 0.8, "val/accuracy")
    assert best([{"epoch": 1}]) is None
    assert curves_data({"a": [{"epoch": 1, "train/loss": math.nan}]}, [LOSS]) == {
        "a": {"train/loss": {"epochs": [1], "values": [None]}}
    }


def test_names_that_a_figure_can_show():
    assert label("cat") == "cat"
    assert label("a\tb\n c\x00") == "a b c"
    assert label("x" * 30) == "x" * 23 + "…"
    assert label(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf?"


AUGMENT = SimpleNamespace(
    ops=("crop", "flip", "erasing"),
    crop=SimpleNamespace(padding=4),
    flip=SimpleNamespace(p=0.5),
    erasing=SimpleNamespace(p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3)),
)
SEED, COUNT, BATCH = 3, 23, 8  # three batches an epoch, the last of 7


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (COUNT, 32, 32, 3), np.uint8)


def test_samples_are_those_of_whole_augmented_batches(images):
    augment, rows, epochs = make_augment(AUGMENT), np.array([0, 5, 22, 11]), range(3)
    made = augmented(augment, images, rows, seed=SEED, batch_size=BATCH, epochs=epochs)
    assert made.shape == (4, 3, 32, 32, 3)
    whole_batch = jax.jit(augment)
    for e in epochs:
        order = epoch_order(SEED, e, COUNT)
        whole = np.empty_like(images)
        for step, start in enumerate(range(0, COUNT, BATCH)):
            batch = order[start : start + BATCH]
            whole[batch] = whole_batch(augment_key(SEED, 3 * e + step), images[batch])
        np.testing.assert_array_equal(made[:, e], whole[rows])
    assert (made != images[rows][:, None]).any()


def test_samples_are_what_the_training_step_is_fed(images, monkeypatch):
    def update(network, tx, state, images, labels, **_):
        return (images, labels), training.Totals.zero()

    monkeypatch.setattr(training, "update", update)
    augment, epoch = make_augment(AUGMENT), 2
    task = training.Task(
        network=None,
        optimizer=SimpleNamespace(tx=None),
        augment=augment,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.2),
        dtype="float32",
        label_smoothing=0.0,
        seed=SEED,
        batch_size=BATCH,
        steps_per_epoch=3,
        layout=make_layout("jit", 1),
    )
    order = epoch_order(SEED, epoch, COUNT)
    # In place of labels the images' numbers, so that the step says which ones it took.
    for step, size in enumerate((8, 8, 7)):
        state = training.TrainState(jnp.int32(3 * epoch + step), {}, {}, ())
        run = jax.jit(functools.partial(training.train_step, task, size=size))
        (fed, rows), _ = run(state, training.Totals.zero(), images, np.arange(COUNT), order)
        rows = np.asarray(rows)
        made = augmented(augment, images, rows, seed=SEED, batch_size=BATCH, epochs=[epoch])
        np.testing.assert_array_equal(normalize(made[:, 0], task.mean, task.std), fed)


def test_samples_show_each_class_once(images):
    labels = np.arange(COUNT) % 11
    assert one_of_each(labels[3:], 3).tolist() == [8, 9, 10]
    config = SimpleNamespace(seed=SEED, batch_size=BATCH)
    samples = read_samples(make_augment(SimpleNamespace(ops=())), images, labels, config)
    assert samples.labels.tolist() == samples.rows.tolist() == list(range(8))
    np.testing.assert_array_equal(samples.augmented, np.repeat(images[:8, None], 6, 1))
    assert samples.heads == ["original", *(f"epoch {i}" for i in range(1, 7))]
