"""Lookahead on and off, each with two rates, on S3's Basic SE-ResNet.

    python -m jaxnets.sweep --ablation lookahead --seeds 3 --workdir sweeps/lookahead

S2 and S3 train with Lookahead (k 5, alpha .5) and claim 95.6 % for the recipe as a whole; they give
no figure without it.
"""

from jaxnets.sweep.ablation import Setting

RECIPE = "se_resnet"
_OFF = "optim.lookahead.enabled=false"

SETTINGS = {
    "Lookahead, rate .1": Setting((), "95.6 %"),
    "Lookahead, rate .05": Setting(("optim.lr=.05",)),
    "none, rate .1": Setting((_OFF,)),
    "none, rate .05": Setting((_OFF, "optim.lr=.05")),
}
