"""Mish-SE-ResNet18 on CIFAR-10: S1, 4,570,934 parameters.

    python -m jaxnets.train --config configs/mish_se_resnet18.py
    python -m jaxnets.train --config configs/mish_se_resnet18.py:as_run

Published: 93 % test accuracy.  `as_run` is what the published code did: less weight decay, smaller
batches, AutoAugment with torchvision's default policy (ImageNet's) and RandomErasing.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented", "as_run")


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "mish_se_resnet18"

    c.model.name = "mish_se_resnet18"
    c.model.activation = "mish"
    c.model.se = True
    c.model.widths = (32, 64, 256, 256)
    c.model.num_blocks = (2, 2, 2, 2)
    c.model.drop = 0.5

    c.data.mean, c.data.std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    c.augment.ops = ("crop", "flip")
    c.augment.crop.padding = 4

    c.optim.lr, c.optim.weight_decay = 0.05, 1e-3
    c.schedule.name, c.schedule.T_0, c.schedule.T_mult = "warm_restarts", 10, 2
    c.loss.label_smoothing = 0.1

    c.batch_size, c.num_epochs = 512, 200
    if preset == "as_run":
        c.name = "mish_se_resnet18_as_run"
        c.optim.weight_decay = 1e-4
        c.augment.ops = ("crop", "flip", "auto_augment", "erasing")
        c.augment.auto_augment.policy = "imagenet"
        c.batch_size, c.num_epochs = 256, 192
    return c
