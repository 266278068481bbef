"""SE-ResNet [4, 4, 3] on CIFAR-10: the "Basic SE-ResNet" of S3, 4,697,742 parameters.

    python -m jaxnets.train --config configs/se_resnet.py

Published: 95.6 % test accuracy after 200 epochs.  Own results and times: RESULTS.md.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented",)


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "se_resnet"

    c.model.name = "se_resnet"
    c.model.num_blocks = (4, 4, 3)
    c.model.num_channels = 64
    c.model.conv_kernel_sizes = (3, 3, 3)
    c.model.shortcut_kernel_sizes = (1, 1, 1)
    c.model.se = "stem"
    c.model.drop = 0.0

    c.augment.ops = ("random_resized_crop", "rotation", "crop", "flip", "jitter")
    c.augment.crop.padding = 2

    c.optim.lr = 0.1
    c.optim.clip, c.optim.clip_at = "value", 0.1
    c.optim.lookahead.enabled = True
    c.schedule.name, c.schedule.end_lr = "cosine", 0.001

    c.batch_size, c.num_epochs = 128, 200
    return c
