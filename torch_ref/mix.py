"""MixUp and CutMix of a batch in PyTorch: the twin of jaxnets.augment.mix."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jaxnets.augment.options import MIX_STREAM, Mix
from jaxnets.augment.tables import LEVELS, box_sides, mix_weights
from torch_ref import threefry


class Drawn(NamedTuple):
    """Box (n, 4) of CutMix, MixUp's weight of the image and the weight of its label, (n,) each."""

    box: Tensor
    blend: Tensor
    weight: Tensor


def mix_key(seed: int, step: int) -> np.ndarray:
    """The key of training step `step` (from 0)."""
    return threefry.fold_in(threefry.fold_in(threefry.key(seed), MIX_STREAM), step)


def draw(options: Mix, u: Tensor, height: int, width: int) -> Drawn:
    """From uniforms u, float32 (n, Mix.columns), a row an image."""
    level = (u[:, 2] * LEVELS).long()
    on = u[:, 0] < np.float32(options.p)
    either = u[:, 1] < 0.5
    cut = on & {"either": either, "cutmix": on, "mixup": ~on}[options.name]
    edges = []
    for centre, side in ((u[:, 3] * height, height), (u[:, 4] * width, width)):
        half = torch.as_tensor(box_sides(options.alpha, side))[level].long() // 2
        edges += [centre.long() - half, centre.long() + half]
    top, bottom = edges[0].clamp(min=0), edges[1].clamp(max=height)
    left, right = edges[2].clamp(min=0), edges[3].clamp(max=width)
    box = torch.stack([top, bottom, left, right], 1) * cut[:, None]
    area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
    blend = torch.where(on & ~cut, torch.as_tensor(mix_weights(options.alpha))[level], 1.0)
    return Drawn(box, blend, torch.where(cut, 1 - area.double() / (height * width), blend))


def apply(images: Tensor, drawn: Drawn) -> Tensor:
    """The mixed images, floats (n, H, W, C): each with the one before it, the first with the last.

    One image after another, as the publications write it.
    """
    mixed = images.clone()
    for i, (top, bottom, left, right) in enumerate(drawn.box.tolist()):
        mixed[i, top:bottom, left:right] = images[i - 1, top:bottom, left:right]
        blend = float(drawn.blend[i])
        if blend < 1:
            mixed[i] = blend * images[i] + (1 - blend) * images[i - 1]
    return mixed


def targets(labels: Tensor, drawn: Drawn, classes: int) -> Tensor:
    """The probabilities (n, K), float64, that CrossEntropyLoss takes in the place of labels."""
    own = F.one_hot(labels, classes).double()
    weight = drawn.weight.to(own.device)[:, None]
    return weight * own + (1 - weight) * own.roll(1, 0)
