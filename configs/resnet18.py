"""ResNet-18 in its CIFAR form (kuangliu/pytorch-cifar), 11,173,962 parameters: the baseline.

    python -m jaxnets.train --config configs/resnet18.py

The recipe is the usual one of that project: SGD with momentum and a cosine over 200 epochs.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented",)


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "resnet18"

    c.model.name = "resnet18"
    c.model.num_blocks = (2, 2, 2, 2)
    c.model.num_channels = 64
    c.model.drop = 0.0

    c.augment.ops = ("crop", "flip")
    c.augment.crop.padding = 4
    c.optim.lr = 0.1
    c.schedule.name = "cosine"
    c.batch_size, c.num_epochs = 128, 200
    return c
