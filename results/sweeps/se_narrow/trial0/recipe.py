"""Trial 0 of the sweep sweeps/se_narrow.

model.se=none
"""

from jaxnets.config import default_config


def get_config(preset: str = "documented"):
    c = default_config()
    c.data.val_fraction = 0.2
    c.model.conv_kernel_sizes = (3, 3)
    c.model.drop = 0.0
    c.model.name = "se_resnet"
    c.model.num_blocks = (1, 1)
    c.model.num_channels = 16
    c.model.se = "none"
    c.model.shortcut_kernel_sizes = (1, 1)
    c.name = "se_resnet_small"
    c.num_epochs = 3
    c.optim.nesterov = True
    c.schedule.cycle_momentum = False
    c.schedule.max_lr = 0.2
    c.schedule.name = "one_cycle"
    c.schedule.pct_start = 0.2
    c.schedule.per = "step"
    return c
