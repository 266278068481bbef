"""Networks on a split of their data: what evaluate, the report and the results say of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import Dataset, load
from jaxnets.data.identity import changes, identity
from jaxnets.errors import UserError
from jaxnets.inference.network import Member, check_classes, log_probabilities


class Evaluated(NamedTuple):
    """What came out for each image of the split.

    labels: (N,).
    logs: log probabilities (N, K), float64, of each network.
    changed: how the data differs from what each network was trained on.
    same_val: whether all were validated on the same images, none of which any was trained on.
    """

    data: Dataset
    labels: np.ndarray
    logs: list[np.ndarray]
    changed: list[list[str]]
    same_val: bool


def evaluate(members: Sequence[Member], config: Any, split: str = "test") -> Evaluated:
    """Evaluates each network alone.

    Args:
        config: says which data.
        split: "test" or "val".

    Raises:
        UserError: networks of different data, data of other classes than theirs, or a validation
            split that one of them may have been trained on.
    """
    same_val = _check_data(members, split)
    data = load(config)
    now = identity(data)
    for member in members:
        check_classes(member, data.class_names, data.source)
        leaks = changes(member.meta.get("data"), now, ("train", "val"))
        if leaks and split == "val":
            raise UserError(
                f"--split val: {data.source} is not what {member.workdir} was trained on "
                f"({'; '.join(leaks)}), so it may have been trained on images of this split"
            )
        same_val = same_val and not leaks
    images, labels = data.test_images, data.test_labels
    if split == "val":
        images, labels = data.val_images, data.val_labels
    return Evaluated(
        data=data,
        labels=labels,
        logs=[log_probabilities([m], images, m.config.eval_batch_size) for m in members],
        changed=[changes(m.meta.get("data"), now) for m in members],
        same_val=same_val,
    )


def _check_data(members: Sequence[Member], split: str) -> bool:
    """Whether all were validated on the same images."""
    data = [m.config.data for m in members]
    if len({d.name for d in data}) > 1:
        raise UserError(
            "trained on different data: "
            + ", ".join(f"{m.workdir} on {m.config.data.name}" for m in members)
        )
    same = len({(m.config.seed, d.val_fraction) for m, d in zip(members, data, strict=True)}) == 1
    if split == "val":
        if not data[0].val_fraction:
            raise UserError(
                f"--split val: {members[0].workdir} was trained without a validation split "
                "(config.data.val_fraction=0)"
            )
        if not same:
            raise UserError(
                "--split val: the members' validation splits differ (config.seed, "
                "config.data.val_fraction), so some were trained on images of the others'"
            )
    return same
