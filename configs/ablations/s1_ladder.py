"""S1's ladder: the Mish-SE-ResNet18 from Adam to the documented recipe, one step at a time.

    python -m jaxnets.sweep --ablation s1_ladder --seeds 3 --workdir sweeps/s1_ladder

The document claims 74 % with Adam, 77 to 78 % with SGD, and 82.4 % with dropout and weight decay.
These figures are of its private test set; for the whole recipe it claims 93 % on CIFAR-10's.  Which
rates and decays the lower rungs had, it does not say: those here are PyTorch's and the recipe's.
"""

from jaxnets.sweep.ablation import Setting

RECIPE = "mish_se_resnet18"
_BARE = ("model.drop=0", "optim.weight_decay=0")

SETTINGS = {
    "Adam": Setting(("optim.name=adam", "optim.lr=.001", *_BARE), "74 %"),
    "SGD": Setting(_BARE, "77 to 78 %"),
    "SGD, rate .1": Setting(("optim.lr=.1", *_BARE)),
    "SGD, rate .01": Setting(("optim.lr=.01", *_BARE)),
    "+ dropout .5": Setting(("optim.weight_decay=0",)),
    "+ weight decay .001": Setting(("model.drop=0",)),
    "+ both": Setting((), "82.4 %"),
    "+ both, decay .0005": Setting(("optim.weight_decay=.0005",)),
}
