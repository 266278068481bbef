"""The five SqueezeNet/ResNet hybrids on CIFAR-100: S0, one preset each.

    python -m jaxnets.train --config configs/cifar100.py:v5

    v1  baseline CNN                 7,856,868 parameters   published 44.83 %
    v2  Fire modules                 1,283,684              53.65 %
    v3  Fire with 1x1 projections    2,847,476              55.11 %
    v4  residual                     3,235,460              59.88 %
    v5  hybrid                       3,657,440              51.71 % after 12 epochs

v2_as_run has no label smoothing and v5_as_run no addition, as the published code.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("v1", "v2", "v2_as_run", "v3", "v4", "v5", "v5_as_run")


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
    c.loss.label_smoothing = 0.0 if preset == "v2_as_run" else 0.1

    c.batch_size, c.num_epochs = 32, 50
    return c
