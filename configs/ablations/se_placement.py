"""S2's and S3's excitation: none, one after the stem, one in every block; how far it squeezes.

    python -m jaxnets.sweep --ablation se_placement --seeds 3 --workdir sweeps/se_placement

S3 claims 95.6 % with the one after the stem (4,697,742 parameters).  S2's published run, 95.87 % at
best, had none, under another schedule and augmentation: configs/se_resnet_drop.py:as_run.  In words
both describe excitation in every block, without a figure of its own.
"""

from jaxnets.sweep.ablation import Setting

RECIPE = "se_resnet"

SETTINGS = {
    "none": Setting(("model.se=none",)),
    "stem": Setting((), "95.6 %"),
    "stem, reduction 8": Setting(("model.se_reduction=8",)),
    "stem, reduction 4": Setting(("model.se_reduction=4",)),
    "block": Setting(("model.se=block",)),
    "block, reduction 8": Setting(("model.se=block", "model.se_reduction=8")),
    "block, reduction 4": Setting(("model.se=block", "model.se_reduction=4")),
}
