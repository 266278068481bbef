"""A narrow SE-ResNet on scikit-learn's 1,797 handwritten digits: a first run, needs no download.

    python -m jaxnets.train --config configs/quickstart.py

Half a minute on two CPU cores; at least 97 % test accuracy.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented",)


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "quickstart"

    c.model.name = "se_resnet"
    c.model.num_blocks = (1, 1, 1)
    c.model.num_channels = 16
    c.model.se = "stem"
    c.model.drop = 0.0

    c.data.name = "digits"
    c.data.mean, c.data.std = (0.31, 0.31, 0.31), (0.36, 0.36, 0.36)
    c.augment.ops = ("crop",)
    c.augment.crop.padding = 2

    c.optim.lr = 0.1
    c.optim.lookahead.enabled = True
    c.schedule.name, c.schedule.end_lr = "cosine", 0.001

    c.batch_size, c.num_epochs = 64, 10
    return c
