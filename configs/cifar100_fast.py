"""The hybrid Cifar100v5 in little time: the 3,657,440 parameters of configs/cifar100.py:v5.

    python -m jaxnets.train --config configs/cifar100_fast.py

Wanted: the accuracy of cifar100:v5 in the fewest seconds of one GPU, by the means of
configs/se_resnet_fast.py.  Not tuned, and not measured yet: RESULTS.md.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented",)


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "cifar100_fast"
    c.dtype = "bfloat16"

    c.model.name = "cifar100_v5"
    c.model.width = 1.0
    c.model.drop = 0.3
    c.model.conv_drop = 0.2
    c.model.residual = True

    c.data.name = "cifar100"
    c.data.mean, c.data.std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    c.augment.ops = ("crop", "flip")

    c.optim.nesterov = True
    c.schedule.name, c.schedule.per = "one_cycle", "step"
    c.schedule.max_lr, c.schedule.pct_start = 0.2, 0.25
    c.schedule.cycle_momentum = False
    c.loss.label_smoothing = 0.1

    c.batch_size, c.num_epochs = 512, 40
    return c
