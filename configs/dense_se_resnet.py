"""Dense SE-ResNet on CIFAR-10, the third stage's kernels shared: S3, 3,116,378 parameters.

    python -m jaxnets.train --config configs/dense_se_resnet.py
    python -m jaxnets.train --config configs/dense_se_resnet.py:as_run
    python -m jaxnets.train --config configs/dense_se_resnet.py --config.model.share=all

Published: 93.7 % test accuracy.  `as_run` is the published log's shorter schedule, 110 epochs.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented", "as_run")


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "dense_se_resnet"

    c.model.name = "dense_se_resnet"
    c.model.depth = 6
    c.model.widths = (64, 128, 256)
    c.model.share = "third"
    c.model.drop = 0.0

    c.augment.ops = ("random_resized_crop", "rotation", "crop", "flip", "jitter")
    c.augment.crop.padding = 2

    c.optim.lr, c.optim.nesterov = 0.01, True
    c.optim.clip, c.optim.clip_at = "value", 0.1
    c.schedule.name, c.schedule.milestones = "multistep", (85, 110, 135, 160, 185)

    c.batch_size, c.num_epochs = 128, 200
    if preset == "as_run":
        c.name = "dense_se_resnet_as_run"
        c.schedule.milestones, c.num_epochs = (60, 85, 100), 110
    return c
