"""SE-ResNet [4, 4, 3] with 16 channels on CIFAR-10: 295,755 parameters, made for two CPU cores.

    python -m jaxnets.train --config configs/se_resnet_small.py

Wanted: at least 90 % test accuracy in 30 epochs, an hour or two on two cores.  Not run yet; what is
measured stands in RESULTS.md.

Why these settings and not those of configs/se_resnet.py, which are for sixteen times the weights:

- Schedule: one cycle over all epochs, stepwise.  A short run gains most from a high rate early and
  one fall to nothing at the end (Smith & Topin 2018); a constant or restarted rate would be cut off
  while still noisy.  The peak of .2 at batch 128 is the .4 of configs/se_resnet_fast.py at batch
  512, scaled with the root of the batch; a fifth of the run warms up, which BatchNorm needs little
  of.
- Nesterov momentum .9, not cycled: short runs are the case where looking ahead pays.
- Weight decay 5e-4, the usual one: with BatchNorm it keeps the effective rate up, which a short run
  needs more than a long one.
- No clipping and no Lookahead: value clipping at .1 turns the gradient where a narrow network's is
  largest, and what Lookahead averages, a rate that falls to nothing averages as well.
- Crop and flip alone, no label smoothing, no dropout: a network of this size underfits in 30 epochs
  (ResNet-20, about as large, ends above 91 % after 160), so every further regulariser costs.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("documented",)


def get_config(preset: str = "documented"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "se_resnet_small"

    c.model.name = "se_resnet"
    c.model.num_blocks = (4, 4, 3)
    c.model.num_channels = 16
    c.model.conv_kernel_sizes = (3, 3, 3)
    c.model.shortcut_kernel_sizes = (1, 1, 1)
    c.model.se = "stem"
    c.model.drop = 0.0

    c.augment.ops = ("crop", "flip")
    c.augment.crop.padding = 4

    c.optim.nesterov = True
    c.schedule.name, c.schedule.per = "one_cycle", "step"
    c.schedule.max_lr, c.schedule.pct_start = 0.2, 0.2
    c.schedule.cycle_momentum = False

    c.batch_size, c.num_epochs = 128, 30
    return c
