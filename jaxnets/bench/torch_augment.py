"""The twin's augmentation for a GPU: no step waits for the host, so that PyTorch is at its fastest.

The twin picks the images that an operation is for and loops over boxes, which is quickest on a CPU;
on a GPU both would stop the queue. Here every image goes through every operation, and keeps the
results that it was meant to get. The images are the same, bit for bit.
"""

import torch
from torch import Tensor

from jaxnets.augment import tables
from jaxnets.augment.options import Options
from torch_ref import image_ops
from torch_ref.augment import Augment

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


class DeviceAugment(Augment):
    """The operations of an `Augment` for images of H x W; AutoAugment is the twin's, and waits."""

    def __init__(self, ops: dict[str, Options], height: int, width: int, device: torch.device):
        super().__init__(ops)
        self._taps = [torch.tensor(tables.resize_taps(n), device=device) for n in (height, width)]
        self._ties = torch.tensor(tables.hue_ties(), device=device)

    def apply(self, images: Tensor, params: dict[str, dict[str, Tensor]]) -> Tensor:
        """The augmented images, uint8 (n, H, W, 3)."""
        for op, options in self.ops.items():
            if op == "jitter":
                images = _jitter(images, params[op], self._ties if options.hue > 0 else None)
            elif op == "random_resized_crop":
                images = image_ops.resized_crop(images, params[op]["box"], self._taps)
            elif op == "erasing":
                images = _erase(images, params[op]["box"])
            else:
                images = Augment({op: options}).apply(images, params)
        return images


def _jitter(images: Tensor, params: dict[str, Tensor], ties: Tensor | None) -> Tensor:
    order = params["order"]
    turn_place = (order == _HUE).int().argmax(1)
    factors = torch.stack([params[k] for k in ("brightness", "contrast", "saturation")], 1)

    def blend(images: Tensor, place: int, active: Tensor) -> Tensor:
        op = order[:, place]
        kind = op[:, None, None, None]
        luma = image_ops.grey(images)
        other = torch.where(kind == _CONTRAST, image_ops.mean_grey(luma), luma)
        other = torch.where(kind == _BRIGHTNESS, 0, other)
        factor = factors.gather(1, op.clamp(max=_SATURATION)[:, None])[:, 0]
        factor = torch.where(active, factor, 1 << tables.FACTOR_BITS)
        return image_ops.blend(images, other, factor)

    for place in (0, 1, 2):
        images = blend(images, place, place < turn_place)
    if ties is not None:
        images = image_ops.shift_hue(images, tables.hue_shift(params["hue"]), ties)
    for place in (1, 2, 3):
        images = blend(images, place, place > turn_place)
    return images


def _erase(images: Tensor, box: Tensor) -> Tensor:
    top, left, height, width = (side[:, None] for side in box.unbind(1))
    y, x = torch.arange(images.shape[1]), torch.arange(images.shape[2])
    rows = (y >= top) & (y < top + height)
    columns = (x >= left) & (x < left + width)
    return images * ~(rows[:, :, None] & columns[:, None])[..., None]
