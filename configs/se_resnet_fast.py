"""SE-ResNet [4, 4, 3] on CIFAR-10 in little time: the 4,697,742 parameters of configs/se_resnet.py.

    python -m jaxnets.train --config configs/se_resnet_fast.py

Wanted: the published 95.6 % test accuracy in the fewest seconds of one GPU.  The settings are the
field's usual ones for short runs: one cycle of the rate, large batches, Nesterov momentum, label
smoothing, crop, flip and a small erased patch, bfloat16.  They were not tuned, and what they reach
was not measured yet: RESULTS.md.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented",)


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "se_resnet_fast"
    c.dtype = "bfloat16"

    c.model.name = "se_resnet"
    c.model.num_blocks = (4, 4, 3)
    c.model.num_channels = 64
    c.model.conv_kernel_sizes = (3, 3, 3)
    c.model.shortcut_kernel_sizes = (1, 1, 1)
    c.model.se = "stem"
    c.model.drop = 0.0

    c.augment.ops = ("crop", "flip", "erasing")
    c.augment.erasing.scale = (0.02, 0.1)

    c.optim.nesterov = True
    c.schedule.name, c.schedule.per = "one_cycle", "step"
    c.schedule.max_lr, c.schedule.pct_start = 0.4, 0.25
    c.schedule.cycle_momentum = False
    c.loss.label_smoothing = 0.1

    c.batch_size, c.num_epochs = 512, 35
    return c
