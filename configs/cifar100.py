"""The five SqueezeNet/ResNet hybrids on CIFAR-100: S0, one preset each.

    python -m jaxnets.train --config configs/cifar100.py:v5

    v1  baseline CNN                 7,856,868 parameters   published 44.83 % best of 46 epochs
    v2  Fire modules                 1,283,684              53.65 % best of 50
    v3  Fire with 1x1 projections    2,847,476              55.11 % after 50
    v4  residual                     3,235,460              59.88 % best of 50
    v5  hybrid                       3,657,440              51.71 % at 12 of 14

The published figures are those of the notebooks, which `v1_as_run` ... `v5_as_run` repeat: the
one-cycle schedule, max_lr .1 whatever the optimizer, is made anew at the start of every epoch, so
that the rate goes from .004 to about .005 within an epoch and starts again. v1 has one schedule,
planned over 70 epochs and cut after 46. v2 has no label smoothing, v5 no addition.
"""

from jaxnets.config import check_preset, default_config

VERSIONS = ("v1", "v2", "v3", "v4", "v5")
PRESETS = (*VERSIONS, *(f"{version}_as_run" for version in VERSIONS))


def get_config(preset: str = "v5"):
    check_preset(preset, PRESETS)
    version = preset[:2]
    c = default_config()
    c.name = f"cifar100_{preset}"

    c.model.name = f"cifar100_{version}"
    c.model.width = 1.0
    c.model.drop = 0.3
    if version in ("v4", "v5"):
        c.model.conv_drop = 0.2
    if version == "v3":
        c.model.use_fire8 = False
    if version == "v5":
        c.model.residual = preset == "v5"

    c.data.name = "cifar100"
    c.data.mean, c.data.std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    c.augment.ops = ("crop", "flip", "jitter")
    c.augment.crop.padding = 4
    jitter = c.augment.jitter
    jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue = 0.2, 0.2, 0.2, 0.1

    c.schedule.name, c.schedule.per = "one_cycle", "step"
    if version in ("v1", "v2"):
        c.optim.lr, c.schedule.max_lr = 0.001, 0.1
    else:
        c.optim.name = "adamw"
        c.optim.lr, c.optim.weight_decay, c.schedule.max_lr = 0.01, 0.01, 0.01
    c.loss.label_smoothing = 0.1
    c.batch_size, c.num_epochs = 32, 50

    if preset != version:  # as run
        c.schedule.max_lr = 0.1
        c.schedule.restart_every_epoch = version != "v1"
        if version == "v1":
            c.num_epochs, c.schedule.total_epochs = 46, 70
        if version == "v2":
            c.loss.label_smoothing = 0.0
        if version == "v5":
            c.num_epochs, c.schedule.total_epochs = 14, 50
    return c
