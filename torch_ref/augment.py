"""Random augmentation of a batch in PyTorch: the twin of jaxnets.augment.pipeline.

    augment = make_augment(config.augment)
    images = augment(augment_key(seed, step), images)          # uint8 (n, H, W, 3) in and out

The same seed and step give the same uniform numbers, parameters and images, bit for bit. All
tensors are on torch's default device, the CPU unless something else is said.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jaxnets.augment import tables
from jaxnets.augment.options import ATTEMPTS, AUGMENT_STREAM, Options, read_options
from jaxnets.augment.policies import PAIRS, PolicyTables, policy_tables
from jaxnets.errors import UserError
from torch_ref import image_ops, threefry

Params = dict[str, dict[str, Tensor]]


class Augment:
    """The augmentations of one configuration; made by `make_augment`."""

    def __init__(self, ops: dict[str, Options]):
        self.ops = ops
        self.size = sum(options.columns for options in ops.values())

    def draw(self, u: Tensor, height: int = 32, width: int = 32) -> Params:
        """Parameters {operation: {name: (n, ...)}} from uniforms u, float32 (n, size) in [0, 1)."""
        columns = u.split([options.columns for options in self.ops.values()], 1) if self.ops else ()
        return {
            op: _DRAW[op](part, options, height, width)
            for (op, options), part in zip(self.ops.items(), columns, strict=True)
        }

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """The augmented images, uint8 (n, H, W, 3); `params` were drawn for their H and W."""
        for op, options in self.ops.items():
            images = _APPLY[op](images, params[op], options)
        return images

    def __call__(self, key: np.ndarray, images: Tensor) -> Tensor:
        """Draw from `key` and apply to uint8 images (n, H, W, 3)."""
        n, height, width, _ = images.shape
        u = torch.as_tensor(threefry.uniform(key, (n, self.size)))
        return self.apply(images, self.draw(u, height, width))


def make_augment(config: Any) -> Augment:
    """The augmentations `config.ops` names, in that order, with the options in `config.<name>`.

    Raises:
        ValueError: an unknown or repeated operation, or a value that is missing or out of range.
    """
    try:
        return Augment(read_options(config))
    except UserError as error:
        raise ValueError(str(error)) from None


def augment_key(seed: int, step: int) -> np.ndarray:
    """The key of training step `step` (from 0)."""
    return threefry.fold_in(threefry.fold_in(threefry.key(seed), AUGMENT_STREAM), step)


def normalize(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(images / 255 - mean) / std as `dtype`, uint8 images (..., C); mean and std in 0..1 units."""
    wide = torch.promote_types(dtype, torch.float32)
    shift = torch.tensor(255 * np.asarray(mean, np.float64), dtype=wide)
    scale = torch.tensor(1 / (255 * np.asarray(std, np.float64)), dtype=wide)
    return ((images.to(wide) - shift) * scale).to(dtype)


def _integers(u: Tensor, count: int | Tensor) -> Tensor:
    """Uniform integers 0..count - 1 from u in [0, 1)."""
    return (u * torch.as_tensor(count).float()).long()


def _draw_boxes(u: Tensor, options: Options, height: int, width: int, fits, ratio_of_height: bool):
    """The first of ATTEMPTS boxes that `fits`, (n, 4), and whether there is one, (n,)."""
    area = torch.as_tensor(tables.areas(options.scale))[_integers(u[:, :ATTEMPTS], tables.LEVELS)]
    level = _integers(u[:, ATTEMPTS:-2], tables.LEVELS)
    wide, tall = (torch.as_tensor(f)[level] for f in tables.aspect_ratios(options.ratio))
    if ratio_of_height:
        wide, tall = tall, wide
    # A side is the number of thresholds reached, as in jaxnets: no rounding of roots to differ in.
    heights, widths = (
        (area * factor)[..., None]
        .ge(torch.as_tensor(tables.side_thresholds(side, height * width)))
        .sum(-1)
        for factor, side in ((tall, height), (wide, width))
    )
    good = fits(heights, widths)
    first = good.int().argmax(1, keepdim=True)
    box_height, box_width = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
    top = _integers(u[:, -2], height - box_height + 1)
    left = _integers(u[:, -1], width - box_width + 1)
    return torch.stack([top, left, box_height, box_width], 1), good.any(1)


def _draw_resized_crop(u, options, height, width):
    def fits(h, w):
        return (h > 0) & (h <= height) & (w > 0) & (w <= width)

    box, found = _draw_boxes(u, options, height, width, fits, ratio_of_height=False)
    fallback = torch.tensor(tables.central_box(options.ratio, height, width))
    return {"box": torch.where(found[:, None], box, fallback)}


def _draw_rotation(u, options, height, width):
    angles, matrices = tables.rotations(float(options.degrees), height, width)
    level = _integers(u[:, 0], tables.LEVELS)
    return {
        "angle": torch.as_tensor(angles)[level],
        "matrix": torch.as_tensor(matrices)[level].long(),
    }


def _draw_crop(u, options, height, width):
    return {"offset": _integers(u, 2 * options.padding + 1)}


def _draw_flip(u, options, height, width):
    return {"flipped": u[:, 0] < np.float32(options.p)}


def _draw_jitter(u, options, height, width):
    params = {"order": u[:, :4].argsort(dim=1, stable=True)}
    for i, (name, strength) in enumerate(options._asdict().items()):
        low, high = tables.jitter_range(name, strength)
        params[name] = low + _integers(u[:, 4 + i], high - low + 1)
    return params


def _draw_erasing(u, options, height, width):
    def fits(h, w):
        return (h < height) & (w < width)

    box, found = _draw_boxes(u[:, 1:], options, height, width, fits, ratio_of_height=True)
    erased = found & (u[:, 0] < np.float32(options.p))
    return {"box": torch.where(erased[:, None], box, 0)}


def _draw_auto_augment(u, options, height, width):
    probability = torch.as_tensor(policy_tables(options.policy, 1, 1).probability)
    pair = _integers(u[:, 0], PAIRS)
    rows = 4 * pair[:, None] + torch.tensor([0, 2]) + (u[:, 3:] >= 0.5)
    return {"rows": torch.where(u[:, 1:3] <= probability[pair], rows, 4 * PAIRS)}


def _jitter(images, params, options):
    """Each image's four operations one after the other, in its own order."""
    names = list(options._fields)
    out = images.clone()
    for place in range(4):
        for op, name in enumerate(names):
            chosen = params["order"][:, place] == op
            if not chosen.any() or (name == "hue" and options.hue == 0):
                continue
            x, amount = out[chosen], params[name][chosen]
            if name == "brightness":
                out[chosen] = image_ops.blend(x, torch.tensor(0), amount)
            elif name == "contrast":
                out[chosen] = image_ops.blend(x, image_ops.mean_grey(image_ops.grey(x)), amount)
            elif name == "saturation":
                out[chosen] = image_ops.blend(x, image_ops.grey(x), amount)
            else:
                out[chosen] = image_ops.shift_hue(x, tables.hue_shift(amount))
    return out


def _auto_augment(images, params, options):
    """For both places of a pair: each operation on the images that it is for."""
    policy = policy_tables(options.policy, *images.shape[1:3])
    out = images.clone()
    for rows in params["rows"].unbind(1):
        names = np.array([policy.steps[row].name for row in rows.tolist()])
        for name in np.unique(names):
            chosen = torch.as_tensor(names == name)
            out[chosen] = _step(out[chosen], name, rows[chosen], policy)
    return out


def _step(x: Tensor, name: str, rows: Tensor, policy: PolicyTables) -> Tensor:
    factor = torch.tensor([1 + policy.steps[row].magnitude for row in rows.tolist()]).float()
    match name:
        case "color":
            return image_ops.blend_float32(x, image_ops.grey(x), factor)
        case "contrast":
            return image_ops.blend_float32(x, image_ops.mean_grey(image_ops.grey(x)), factor)
        case "sharpness":
            return image_ops.blend_float32(x, image_ops.smooth(x), factor)
        case "autocontrast":
            return image_ops.autocontrast(x)
        case "equalize":
            return image_ops.equalize(x)
        case "brightness" | "posterize" | "solarize" | "invert":
            return image_ops.lookup(x, torch.as_tensor(policy.lookup)[rows])
        case _:
            return image_ops.affine(x, torch.as_tensor(policy.matrix)[rows].long())


_DRAW = {
    "random_resized_crop": _draw_resized_crop,
    "rotation": _draw_rotation,
    "crop": _draw_crop,
    "flip": _draw_flip,
    "jitter": _draw_jitter,
    "erasing": _draw_erasing,
    "auto_augment": _draw_auto_augment,
}
_APPLY = {
    "random_resized_crop": lambda x, p, options: image_ops.resized_crop(x, p["box"]),
    "rotation": lambda x, p, options: image_ops.affine(x, p["matrix"]),
    "crop": lambda x, p, options: image_ops.crop(x, p["offset"], options.padding),
    "flip": lambda x, p, options: image_ops.flip(x, p["flipped"]),
    "jitter": _jitter,
    "erasing": lambda x, p, options: image_ops.erase(x, p["box"]),
    "auto_augment": _auto_augment,
}
